package bag

import (
	"fmt"
	"path/filepath"
	"strings"
)

// DamagedError ends the messages of a bag of which not everything could be read.
// What could be read came before it.
type DamagedError struct {
	File   string
	Offset int64  // byte where the first damage begins, -1 if the storage does not tell
	Read   uint64 // messages that were read from this file
	// Lost is how many messages the file had beyond those, by its own statistics or
	// by metadata.yaml; -1 where neither tells, as after a recorder that was killed.
	Lost int64
	Err  error // matches ErrTruncated or ErrCorrupt
}

func (e *DamagedError) Error() string {
	lost := "how many are lost nothing tells"
	if e.Lost >= 0 {
		lost = fmt.Sprintf("%d lost", e.Lost)
	}
	where := ""
	if e.Offset >= 0 {
		where = fmt.Sprintf(", damaged at byte %d", e.Offset)
	}
	if filepath.Base(e.File) == metadataFile { // which has none
		return fmt.Sprintf("%s: %v; the storage files beside it were read without it; write it anew with `ros2 bag reindex %s`", e.File, e.Err, filepath.Dir(e.File))
	}
	return fmt.Sprintf("%s: %d messages read, %s%s: %v; %s", e.File, e.Read, lost, where, e.Err, e.mend())
}

func (e *DamagedError) Unwrap() error { return e.Err }

// mend is what a user can do about it.
func (e *DamagedError) mend() string {
	const again = "copy the file again if it is whole elsewhere"
	switch name := filepath.Base(e.File); filepath.Ext(name) {
	case ".mcap":
		return fmt.Sprintf("%s, or keep what is left with `mcap recover %s -o %s`", again, name, strings.TrimSuffix(name, ".mcap")+"_left.mcap")
	case ".db3":
		return fmt.Sprintf("%s, or keep what is left with `sqlite3 %s .recover | sqlite3 %s`", again, name, strings.TrimSuffix(name, ".db3")+"_left.db3")
	}
	return again
}

// lost fills in how many messages of a file that had total are missing; total is
// -1 where nothing tells. A recorder that was killed may have written fewer into
// metadata.yaml than the file holds, so that is no knowledge either.
func (e *DamagedError) lost(total int64) {
	e.Lost = -1
	if total > 0 && uint64(total) >= e.Read {
		e.Lost = total - int64(e.Read)
	}
}
