package bag

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	"github.com/mattn/go-sqlite3"
)

// sqliteFile is a .db3 file of rosbag2: tables topics and messages.
type sqliteFile struct {
	sum    summary
	topics map[int64]Topic // by row id
}

// openDB opens a .db3 for reading. A file in a directory that cannot be written
// still opens, as SQLite then takes it for one that nobody changes.
func openDB(ctx context.Context, path string) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	for _, options := range []string{"mode=ro", "immutable=1"} {
		uri := url.URL{Scheme: "file", Path: absolute, RawQuery: options}
		var db *sql.DB
		if db, err = sql.Open("sqlite3", uri.String()); err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		var n int
		if err = db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&n); err == nil {
			return db, nil
		}
		db.Close()
		var failed sqlite3.Error
		if !errors.As(err, &failed) || failed.Code != sqlite3.ErrCantOpen {
			break
		}
	}
	return nil, err
}

func openSQLite(path string) (*sqliteFile, error) {
	ctx := context.Background()
	db, err := openDB(ctx, path)
	if err != nil {
		return nil, sqliteError(path, err)
	}
	defer db.Close()
	f := &sqliteFile{sum: summary{path: path}, topics: map[int64]Topic{}}
	if err := f.readTopics(ctx, db); err != nil {
		return nil, sqliteError(path, err)
	}
	if err := f.count(ctx, db); err != nil {
		return nil, sqliteError(path, err)
	}
	for _, t := range f.topics {
		f.sum.topics = append(f.sum.topics, t)
	}
	return f, nil
}

func sqliteError(path string, err error) error {
	var failed sqlite3.Error
	if errors.As(err, &failed) && failed.Code == sqlite3.ErrCorrupt {
		// SQLite refuses to read half a file.
		err = fmt.Errorf("%w; copy the file again, it is incomplete or damaged (of MCAP files the whole part can be read)", err)
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
		if s := fromNanoseconds(uint64(max(start, 0))); f.sum.start.IsZero() || s.Before(f.sum.start) {
			f.sum.start = s
		}
		if e := fromNanoseconds(uint64(max(end, 0))); f.sum.end.IsZero() || e.After(f.sum.end) {
			f.sum.end = e
		}
	}
	return rows.Err()
}

func (f *sqliteFile) summary() *summary { return &f.sum }

func (f *sqliteFile) messages(ctx context.Context) (cursor, error) {
	db, err := openDB(ctx, f.sum.path)
	if err != nil {
		return nil, sqliteError(f.sum.path, err)
	}
	// rosbag2 has an index on timestamp, so this streams.
	rows, err := db.QueryContext(ctx, "SELECT topic_id, timestamp, data FROM messages ORDER BY timestamp, id")
	if err != nil {
		db.Close()
		return nil, sqliteError(f.sum.path, err)
	}
	return &sqliteCursor{file: f, db: db, rows: rows}, nil
}

// sqliteCursor walks a file's messages.
type sqliteCursor struct {
	file *sqliteFile
	db   *sql.DB
	rows *sql.Rows
	data sql.RawBytes
	read uint64
}

func (c *sqliteCursor) next(m *Message) error {
	if !c.rows.Next() {
		if err := c.rows.Err(); err != nil {
			return c.damaged(err)
		}
		return io.EOF
	}
	var id, timestamp int64
	if err := c.rows.Scan(&id, &timestamp, &c.data); err != nil {
		return c.damaged(err)
	}
	c.read++
	t := c.file.topics[id]
	*m = Message{Topic: t.Name, Type: t.Type, Time: fromNanoseconds(uint64(max(timestamp, 0))), Data: c.data}
	return nil
}

// damaged tells a broken file from a walk that was cancelled.
func (c *sqliteCursor) damaged(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &DamagedError{File: c.file.sum.path, Offset: -1, Read: c.read, Err: fmt.Errorf("%w: %w", ErrCorrupt, err)}
}

func (c *sqliteCursor) close() error {
	return errors.Join(c.rows.Close(), c.db.Close())
}
