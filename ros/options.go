package ros

import (
	"errors"
	"fmt"
	"strconv"

	"go.uber.org/zap"
)

// ErrClosed is returned by what was closed, or whose node was.
var ErrClosed = errors.New("closed")

// MaxDomainID is the largest domain that DDS's port numbers have room for (DDSI-RTPS 2.2, 9.6.1.1:
// 7400 + 250 * domain must stay a port number).
const MaxDomainID = 232

// Options say how a node is made.
type Options struct {
	Name          string      // base name before remapping: letters, digits and _
	Namespace     string      // "/" when empty; a missing leading slash is added
	Remaps        []Remap     // the first rule that fits is applied, once
	DomainID      int         // ROS_DOMAIN_ID, 0..MaxDomainID
	LocalhostOnly bool        // ROS_LOCALHOST_ONLY: neither hear nor speak to other machines
	Logger        *zap.Logger // nil logs nothing
}

// Log is the logger, never nil.
func (o Options) Log() *zap.Logger {
	if o.Logger == nil {
		return zap.NewNop()
	}
	return o.Logger
}

// FromEnvironment sets DomainID and LocalhostOnly from ROS_DOMAIN_ID and ROS_LOCALHOST_ONLY as ROS 2
// Humble reads them. lookup is os.LookupEnv, or a test's own.
func (o *Options) FromEnvironment(lookup func(string) (string, bool)) error {
	if s, _ := lookup("ROS_DOMAIN_ID"); s != "" {
		id, err := strconv.ParseInt(s, 0, 32) // rcl takes C's octal and hexadecimal numbers, too
		if err != nil || id < 0 || id > MaxDomainID {
			return fmt.Errorf("ROS_DOMAIN_ID is %q; it must be a number from 0 to %d", s, MaxDomainID)
		}
		o.DomainID = int(id)
	}
	if s, ok := lookup("ROS_LOCALHOST_ONLY"); ok {
		o.LocalhostOnly = s == "1" // rmw: exactly "1" turns it on
	}
	return nil
}
