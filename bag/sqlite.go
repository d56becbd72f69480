package bag

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"github.com/mattn/go-sqlite3"
)

// garbageLimit is how many bytes of messages may become garbage before it is
// collected. The driver allocates each message anew, and a collection that runs
// beside, as those that begin by themselves at 3 to 4 MB, lets tens of megabytes pile
// up, the more the longer the walk is. It takes up to half of the speed, which is
// still some hundred megabytes a second.
const garbageLimit = 2 << 20

// sqliteFile is a .db3 file of rosbag2: tables topics and messages.
type sqliteFile struct {
	sum     summary
	topics  map[int64]Topic // by row id
	salvage bool            // it is damaged
}

// openDB opens a .db3 for reading. A file in a directory that cannot be written
// still opens, as SQLite then takes it for one that nobody changes, but not where messages
// are in the log beside it, which it would pass over, or where a write that was broken off
// is still to be undone. With salvage, a file opens that is shorter than it says.
func openDB(ctx context.Context, path string, salvage bool) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	for _, options := range []string{"mode=ro", "immutable=1"} {
		if options == "immutable=1" {
			if err := unread(absolute); err != nil {
				return nil, err
			}
		}
		// 1 MB of cache, which is also what counting sorts in memory; a walk comes to each
		// page once.
		uri := url.URL{Scheme: "file", Path: absolute, RawQuery: options + "&_cache_size=-1000"}
		var db *sql.DB
		if salvage {
			db = sql.OpenDB(damagedDB(uri.String()))
		} else if db, err = sql.Open("sqlite3", uri.String()); err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		var n int
		if err = db.QueryRowContext(ctx, "SELECT count(*) FROM topics").Scan(&n); err == nil {
			return db, nil
		}
		db.Close()
		var failed sqlite3.Error
		if !errors.As(err, &failed) || failed.Code != sqlite3.ErrCantOpen && failed.Code != sqlite3.ErrReadonly {
			break
		}
	}
	return nil, err
}

// errLog is a log of SQLite's beside its file that cannot be read.
var errLog = fmt.Errorf("%w: SQLite with a log that cannot be read", ErrUnsupported)

// unread refuses a file with a log beside it that reading the file alone passes over.
func unread(path string) error {
	held := func(suffix string) bool {
		log, err := os.Stat(path + suffix)
		return err == nil && log.Size() > 0
	}
	name := filepath.Base(path)
	if held("-wal") {
		return fmt.Errorf("%w: the newest messages are in %s-wal; copy the bag, with that file, to a directory that can be written", errLog, name)
	}
	if held("-journal") {
		return fmt.Errorf("%w: a write was broken off, and what undoes it is in %s-journal; on a copy of both files, `sqlite3 %s .tables` does that", errLog, name, name)
	}
	return nil
}

func openSQLite(path string) (*sqliteFile, error) {
	ctx := context.Background()
	f := &sqliteFile{}
	err := f.read(ctx, path, false)
	if malformed(err) {
		err = f.read(ctx, path, true)
	}
	if err != nil {
		return nil, sqliteError(path, err)
	}
	for _, t := range f.topics {
		f.sum.topics = append(f.sum.topics, t)
	}
	return f, nil
}

// read fills f with what a file holds, or with what is left in it.
func (f *sqliteFile) read(ctx context.Context, path string, salvage bool) error {
	*f = sqliteFile{sum: summary{path: path, total: -1}, topics: map[int64]Topic{}, salvage: salvage}
	db, err := openDB(ctx, path, salvage)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := f.readTopics(ctx, db); err != nil {
		return err
	}
	if salvage {
		return f.countLeft(ctx, db)
	}
	return f.count(ctx, db)
}

// malformed says whether SQLite could not make sense of a file.
func malformed(err error) bool {
	var failed sqlite3.Error
	return errors.As(err, &failed) && (failed.Code == sqlite3.ErrCorrupt || failed.Code == sqlite3.ErrNotADB ||
		failed.ExtendedCode == sqlite3.ErrIoErrShortRead) // half a page
}

func sqliteError(path string, err error) error {
	if errors.Is(err, errLog) {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if malformed(err) {
		err = fmt.Errorf("%w; not even its topics can be read: copy the file again", err)
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, filepath.Base(path), err)
}

func (f *sqliteFile) readTopics(ctx context.Context, db *sql.DB) error {
	// Before Foxy there were no QoS profiles.
	var withQoS int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM pragma_table_info('topics') WHERE name = 'offered_qos_profiles'").Scan(&withQoS); err != nil {
		return err
	}
	qos := "''"
	if withQoS > 0 {
		qos = "offered_qos_profiles"
	}
	rows, err := db.QueryContext(ctx, "SELECT id, name, type, serialization_format, "+qos+" FROM topics")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var t Topic
		if err := rows.Scan(&id, &t.Name, &t.Type, &t.Format, &t.QoS); err != nil {
			return err
		}
		f.topics[id] = t
	}
	return rows.Err()
}

func (f *sqliteFile) count(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages GROUP BY topic_id")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, start, end int64
		var count uint64
		if err := rows.Scan(&id, &count, &start, &end); err != nil {
			return err
		}
		t, ok := f.topics[id]
		if !ok {
			return fmt.Errorf("%d messages of topic %d, which table topics does not have", count, id)
		}
		t.Count = count
		f.topics[id] = t
		f.sum.see(uint64(max(start, 0)), uint64(max(end, 0)))
	}
	return rows.Err()
}

func (f *sqliteFile) summary() *summary { return &f.sum }

func (f *sqliteFile) messages(ctx context.Context, _ int) (cursor, error) {
	db, err := openDB(ctx, f.sum.path, f.salvage)
	if err != nil {
		return nil, sqliteError(f.sum.path, err)
	}
	c := &sqliteCursor{ctx: ctx, file: f, db: db}
	if f.salvage {
		err = c.salvage(f.damage())
	} else {
		// rosbag2 has an index on timestamp, so this streams.
		c.rows, err = db.QueryContext(ctx, "SELECT id, topic_id, timestamp, data FROM messages ORDER BY timestamp, id")
	}
	if err != nil {
		db.Close()
		return nil, sqliteError(f.sum.path, err)
	}
	return c, nil
}

// sqliteCursor walks a file's messages: one query as long as that goes well, then
// message by message.
type sqliteCursor struct {
	ctx  context.Context
	file *sqliteFile
	db   *sql.DB
	data sql.RawBytes
	junk int // bytes of messages since the last collection
	read uint64
	last leftRow // the message that was read last

	rows   *sql.Rows // of the query, or of the message that the caller has
	left   []leftRow // what the query did not reach
	damage *DamagedError
}

func (c *sqliteCursor) next(m *Message) error {
	if c.damage == nil {
		err := c.scan(m)
		if !malformed(err) {
			return err
		}
		if err := c.salvage(fmt.Errorf("%w: %w", ErrCorrupt, err)); err != nil {
			return err
		}
	}
	return c.nextLeft(m)
}

// scan reads the next row of the query.
func (c *sqliteCursor) scan(m *Message) error {
	if !c.rows.Next() {
		if err := c.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	var topic int64
	var row leftRow
	if err := c.rows.Scan(&row.id, &topic, &row.time, &c.data); err != nil {
		return err
	}
	if c.junk += len(c.data); c.junk > garbageLimit {
		runtime.GC()
		c.junk = 0
	}
	c.read++
	c.last = row
	t := c.file.topics[topic]
	*m = Message{Topic: t.Name, Type: t.Type, Time: fromNanoseconds(uint64(max(row.time, 0))), Data: c.data}
	return nil
}

func (c *sqliteCursor) close() error {
	var err error
	if c.rows != nil {
		err = c.rows.Close()
	}
	return errors.Join(err, c.db.Close())
}
