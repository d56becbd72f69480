package ros

import "fmt"

// CheckCDR tells whether raw starts as plain CDR does: 4 bytes of encapsulation header, representation
// 0x0000 (big endian) or 0x0001 (little endian). ROS 2 Humble sends nothing else, and DDS readers drop
// the whole packet with anything else, so back ends refuse to publish it.
func CheckCDR(raw []byte) error {
	if len(raw) < 4 {
		return fmt.Errorf("%d bytes are no CDR; the encapsulation header alone has 4", len(raw))
	}
	if raw[0] != 0 || raw[1] > 1 {
		return fmt.Errorf("representation %#02x%02x is not plain CDR (0x0000 or 0x0001)", raw[0], raw[1])
	}
	return nil
}
