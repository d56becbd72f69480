package cyclone

// #include <stdlib.h>
// #include "wire.h"
import "C"

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"go.uber.org/zap"
)

// domains are those that this process has open. It is the one global of the package because the thing it
// describes is one: Cyclone lets a process configure each domain once, and its last user must delete it.
var domains = struct {
	sync.Mutex
	open map[int]*domain
}{open: make(map[int]*domain)}

type domain struct {
	entity        C.dds_entity_t
	localhostOnly bool
	users         int
}

// maxParticipantIndex is the highest index that leaves a domain's ports below those of the next one
// (DDSI-RTPS 2.2, 9.6.1.1: 7400 + 250 * domain + 11 + 2 * index).
const maxParticipantIndex = 119

// configuration is Cyclone's XML. What the user says in CYCLONEDDS_URI comes last and so counts.
//
// multicast tells whether the loopback interface has it. Where it does not, participants are found by
// trying ports, of which Cyclone's default tries ten a machine. Cyclone would find that out itself, but
// with a warning for every node that is started.
func configuration(localhostOnly, multicast bool, uri string) string {
	var b strings.Builder
	b.WriteString("<CycloneDDS><Domain>")
	discovery := fmt.Sprintf("<MaxAutoParticipantIndex>%d</MaxAutoParticipantIndex>", maxParticipantIndex)
	if localhostOnly {
		// Datagrams of 64 KiB fit the interface's MTU: images then cost a fraction of the packets.
		b.WriteString(`<General><Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>` +
			`<MaxMessageSize>65500B</MaxMessageSize><FragmentSize>64000B</FragmentSize>`)
		if !multicast {
			b.WriteString("<AllowMulticast>false</AllowMulticast>")
			discovery += `<ParticipantIndex>auto</ParticipantIndex><Peers><Peer address="127.0.0.1"/></Peers>`
		}
		b.WriteString("</General>")
	}
	// The kernel gives as much of this as net.core.rmem_max allows; see adviseBuffer.
	fmt.Fprintf(&b, `<Internal><SocketReceiveBufferSize max="%dB"/></Internal>`, receiveBuffer)
	b.WriteString("<Discovery>" + discovery + "</Discovery></Domain></CycloneDDS>")
	if uri != "" {
		b.WriteString("," + uri)
	}
	return b.String()
}

// loopbackMulticast tells whether the loopback interface carries multicast; on Linux it usually does not.
func loopbackMulticast() bool {
	interfaces, err := net.Interfaces()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(interfaces, func(i net.Interface) bool {
		return i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagMulticast != 0
	})
}

// receiveBuffer is the socket buffer that is asked for. An image comes as a burst, and three cameras' bursts
// must fit while the receiving thread waits for its turn.
const receiveBuffer = 16 << 20

// adviseBuffer returns what to tell the user when the kernel's limit, the text of
// /proc/sys/net/core/rmem_max, is too small for images, else "".
func adviseBuffer(limit string) string {
	n, err := strconv.Atoi(strings.TrimSpace(limit))
	if err != nil || n >= 2<<20 {
		return ""
	}
	return fmt.Sprintf("the kernel limits socket buffers to %d bytes, so raw images will be lost: run "+
		"sysctl -w net.core.rmem_max=%d", n, receiveBuffer)
}

// openDomain configures a domain for its first user in this process.
func openDomain(id int, localhostOnly bool, uri string, log *zap.Logger) error {
	domains.Lock()
	defer domains.Unlock()
	if d := domains.open[id]; d != nil {
		if d.localhostOnly != localhostOnly {
			return fmt.Errorf("domain %d is already open in this process with localhost only = %v", id, d.localhostOnly)
		}
		d.users++
		return nil
	}
	config := C.CString(configuration(localhostOnly, loopbackMulticast(), uri))
	defer C.free(unsafe.Pointer(config))
	entity := C.dds_create_domain(C.dds_domainid_t(id), config)
	if entity < 0 {
		return fmt.Errorf("open domain %d: %w; is CYCLONEDDS_URI valid?", id, codeError(entity))
	}
	if limit, err := os.ReadFile("/proc/sys/net/core/rmem_max"); err == nil { // on Linux
		if advice := adviseBuffer(string(limit)); advice != "" {
			log.Warn(advice)
		}
	}
	domains.open[id] = &domain{entity: entity, localhostOnly: localhostOnly, users: 1}
	return nil
}

// closeDomain deletes a domain, with its threads, after its last user in this process.
func closeDomain(id int) {
	domains.Lock()
	defer domains.Unlock()
	d := domains.open[id]
	if d.users--; d.users == 0 {
		delete(domains.open, id)
		C.dds_delete(d.entity)
	}
}

// codeError is a DDS return code as an error.
type codeError C.dds_return_t

func (e codeError) Error() string {
	return "Cyclone DDS: " + C.GoString(C.dds_strretcode(C.dds_return_t(e)))
}
