package bag

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/mattn/go-sqlite3"
)

// Rows of a damaged table are found by their numbers, which rosbag2 gives in the
// order of writing: the pages of a table are a tree by row number, in which what
// lies beside a lost page is still reached. A list of 16 bytes for each of them
// brings them into the order of time.

// damagedDB is the URI of a database that may be shorter than its header says.
// SQLite refuses such a file unless writable_schema is set before it first looks
// at it, so that the file is attached to an empty database. Nothing is written.
type damagedDB string

func (d damagedDB) Driver() driver.Driver {
	return &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		if _, err := c.Exec("PRAGMA writable_schema = ON", nil); err != nil {
			return err
		}
		_, err := c.Exec("ATTACH ? AS bag", []driver.Value{string(d)})
		return err
	}}
}

func (d damagedDB) Connect(context.Context) (driver.Conn, error) {
	return d.Driver().Open(":memory:")
}

// leftRow is a message whose row is still there; its data may not be.
type leftRow struct{ time, id int64 }

func (r leftRow) compare(other leftRow) int {
	return cmp.Or(cmp.Compare(r.time, other.time), cmp.Compare(r.id, other.id))
}

// errOrder is a table that is no tree any more: rows that come again. It would
// never end.
var errOrder = errors.New("rows come out of order")

// eachLeft visits all rows of table messages that can be reached, by number.
func eachLeft(ctx context.Context, db *sql.DB, visit func(row leftRow, topic int64)) error {
	after := int64(0)
	for {
		err := func() error {
			rows, err := db.QueryContext(ctx, "SELECT id, topic_id, timestamp FROM messages NOT INDEXED WHERE id > ? AND typeof(topic_id) = 'integer' AND typeof(timestamp) = 'integer' ORDER BY id", after)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var row leftRow
				var topic int64
				if err := rows.Scan(&row.id, &topic, &row.time); err != nil {
					return err
				}
				if row.id <= after {
					return errOrder
				}
				after = row.id
				visit(row, topic)
			}
			return rows.Err()
		}()
		if err != errOrder && !malformed(err) {
			return err
		}
		if after, err = behindHole(ctx, db, after); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// behindHole returns the number before the first one that can be reached again,
// if after is the last one before a damaged part; io.EOF if there is none. It
// looks twice as far with each step and then halves, so it may miss rows between
// two damaged parts that lie close.
func behindHole(ctx context.Context, db *sql.DB, after int64) (int64, error) {
	// probe looks for the first row from a number on: io.EOF if the table ends before.
	var first int64
	probe := func(id int64) error {
		err := db.QueryRowContext(ctx, "SELECT id FROM messages NOT INDEXED WHERE id >= ? ORDER BY id LIMIT 1", id).Scan(&first)
		if err == sql.ErrNoRows {
			return io.EOF
		}
		if err == nil && first < id {
			return errOrder
		}
		return err
	}
	lost := func(err error) bool { return err == errOrder || malformed(err) }
	bad, step := after+1, int64(1)
	found := probe(bad + step)
	for ; lost(found); found = probe(bad + step) {
		bad += step
		step *= 2
		if step > math.MaxInt32 || bad > math.MaxInt64-step {
			return 0, io.EOF
		}
	}
	next := first
	for step > 1 && (found == nil || found == io.EOF) {
		half := step / 2
		switch err := probe(bad + half); {
		case lost(err):
			bad, step = bad+half, step-half
		default:
			step, found, next = half, err, first
		}
	}
	// Not bad: there may be nothing for a long way up to the row that was found.
	return next - 1, found
}

// countLeft counts the rows that can be reached.
func (f *sqliteFile) countLeft(ctx context.Context, db *sql.DB) error {
	return eachLeft(ctx, db, func(row leftRow, topic int64) {
		if t, ok := f.topics[topic]; ok {
			t.Count++
			f.topics[topic] = t
			f.sum.see(uint64(max(row.time, 0)), uint64(max(row.time, 0)))
		}
	})
}

// damage says what is wrong with a file that was found damaged when it was opened.
func (f *sqliteFile) damage() error {
	// The page size and the number of pages in the header, https://sqlite.org/fileformat.html 1.3;
	// a page size of 1 stands for 65536.
	var header [32]byte
	file, err := os.Open(f.sum.path)
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	if _, err := file.ReadAt(header[:], 0); err != nil {
		return err
	}
	page := int64(binary.BigEndian.Uint16(header[16:]))
	if page == 1 {
		page = 1 << 16
	}
	if whole := page * int64(binary.BigEndian.Uint32(header[28:])); stat.Size() < whole {
		return fmt.Errorf("%w: %d of %d bytes are there", ErrTruncated, stat.Size(), whole)
	}
	return fmt.Errorf("%w: parts of the database make no sense", ErrCorrupt)
}

// salvage ends the query and makes a list of what it has not reached.
func (c *sqliteCursor) salvage(damage error) error {
	if c.rows != nil {
		c.rows.Close()
		c.rows = nil
	}
	c.damage = &DamagedError{File: c.file.sum.path, Offset: -1, Err: damage}
	err := eachLeft(c.ctx, c.db, func(row leftRow, topic int64) {
		if _, ok := c.file.topics[topic]; ok && (c.read == 0 || row.compare(c.last) > 0) {
			c.left = append(c.left, row)
		}
	})
	slices.SortFunc(c.left, leftRow.compare)
	return err
}

// nextLeft reads the next row of the list; of those whose data are lost it goes
// on to the following one.
func (c *sqliteCursor) nextLeft(m *Message) error {
	for len(c.left) > 0 {
		if c.rows != nil {
			c.rows.Close()
		}
		row := c.left[0]
		c.left = c.left[1:]
		var err error
		if c.rows, err = c.db.QueryContext(c.ctx, "SELECT id, topic_id, timestamp, data FROM messages WHERE id = ?", row.id); err == nil {
			err = c.scan(m)
		}
		if err != io.EOF && !malformed(err) {
			return err
		}
	}
	c.damage.Read = c.read
	return c.damage
}
