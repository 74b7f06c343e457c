package index

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// fileFormat is the format that this version reads and writes.
const fileFormat = 1

// probeKeys is how many keys at either end of a bucket are read to find out
// whether bbolt can read the file at all.
const probeKeys = 1000

// An InUseError says that another process holds the file of a DiffID index. It
// is what [OpenBolt], [Compact] and [Check] return, wrapped, when they have waited
// for as long as they were told to.
type InUseError struct {
	Path    string
	Process int // that holds it; 0 if the system does not tell
}

// Error names the file and its holder, and says what to do.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %s (stop it, or set index.bolt.path)", e.Path, e.Holder())
}

// Holder names the process that holds the file, as far as it is known.
func (e *InUseError) Holder() string {
	if e.Process == 0 {
		return "another process"
	}
	return "process " + strconv.Itoa(e.Process)
}

// errMoved says that what has been opened is not at the path any more.
var errMoved = errors.New("replaced while it was opened")

// openFile opens the file at path. It makes one when there is none, and moves a
// damaged one aside if it is provably a DiffID index. Of that it tells even when it
// returns an error.
func openFile(path string, timeout time.Duration) (f *boltFile, damage []Damage, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("open DiffID index: %w", err)
	}
	var cause error
	for range 2 * attempts { // each finds, makes or moves a file
		f, err = lockFile(path, timeout, false)
		cause = err
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err = createFile(path, linkOrRename); err != nil {
				return nil, damage, err
			}
			continue
		case errors.Is(err, errMoved):
			continue
		case err != nil:
			return nil, damage, err
		}
		if err = f.load(path, timeout); err == nil {
			return f, damage, nil
		}
		cause = err
		// The lock is held until the file has been moved or replaced, so that
		// of two processes that find it damaged only one does so.
		switch {
		case errors.Is(err, ErrDamaged):
			if err = f.proveOurs(path, err); err != nil {
				break
			}
			d := Damage{Path: path, Err: cause}
			d.Moved, err = moveAside(path)
			damage = append(damage, d)
		case errors.Is(err, errEmpty):
			err = createFile(path, os.Rename)
		}
		_ = f.close(abandonAfter)
		if err != nil {
			return nil, damage, err
		}
	}
	return nil, damage, fmt.Errorf("open DiffID index %s: given up: %w", path, cause)
}

// readFile opens the file at path to be read, and leaves it as it is whatever
// is wrong with it.
func readFile(path string, timeout time.Duration) (*boltFile, error) {
	f, err := lockFile(path, timeout, true)
	if err != nil {
		return nil, err
	}
	err = f.load(path, timeout)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, errEmpty):
		err = fmt.Errorf("open DiffID index %s: %w: %w", path, ErrDamaged, err)
	case errors.Is(err, ErrDamaged):
		err = fmt.Errorf("open DiffID index %s: %w", path, err)
	}
	_ = f.close(abandonAfter)
	return nil, err
}

// lockFile opens the file at path and locks it, together with others who only
// read if readOnly is set. bbolt would lock it and map it in one go; the pages
// must be looked at in between.
func lockFile(path string, timeout time.Duration, readOnly bool) (*boltFile, error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	raw, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, fmt.Errorf("open DiffID index: %w", err)
	}
	f := newBoltFile(raw)
	f.readOnly = readOnly
	f.info, err = raw.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("open DiffID index: %w", err)
	case !f.info.Mode().IsRegular():
		err = fmt.Errorf("open DiffID index: %s is not a regular file", path)
	default:
		err = lock(raw, timeout, readOnly)
	}
	if err == nil && !isAt(f.info, path) {
		err = errMoved // its owner gave it up while we waited for the lock
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return f, nil
}

// errEmpty says that a file has no bytes: somebody made it, nobody wrote to it.
var errEmpty = errors.New("empty file")

// load has bbolt open f, which is locked, and makes sure that it holds a DiffID
// index. It returns ErrDamaged or errEmpty when a new file must take its place.
func (f *boltFile) load(path string, timeout time.Duration) error {
	info, err := f.raw.Stat() // again: before it was locked, it may have grown
	if err != nil {
		return fmt.Errorf("open DiffID index: %w", err)
	}
	if info.Size() == 0 {
		return errEmpty
	}
	if err := otherFormat(f.raw); err != nil {
		return fmt.Errorf("open DiffID index %s: %w", path, err)
	}
	if err := checkPages(f.raw, info.Size()); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return guard(func() (err error) {
		options := boltOptions(timeout, f.raw)
		options.ReadOnly = f.readOnly
		f.db, err = bbolt.Open(path, 0o600, options)
		switch {
		case errors.Is(err, berrors.ErrTimeout): // where bbolt alone locks
			return &InUseError{Path: path}
		case err != nil:
			return fmt.Errorf("open DiffID index %s: %w", path, err)
		}
		return f.db.View(func(tx *bbolt.Tx) error {
			f.tx = tx.ID()
			return probe(tx, path)
		})
	})
}

// boltOptions returns the options to have bbolt work on raw, which it will
// close. Every commit is synced, and so is the freelist: without it, each start
// would read the whole file.
func boltOptions(timeout time.Duration, raw *os.File) *bbolt.Options {
	return &bbolt.Options{
		OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return raw, nil },
		Timeout:      max(timeout, time.Millisecond), // 0 would be for ever
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true, // they are behind a lock that all readers share
	}
}

// probe returns nil if tx can be read and shows a DiffID index that this
// version understands.
func probe(tx *bbolt.Tx, path string) error {
	t, err := openTables(tx)
	if err != nil {
		if name, _ := tx.Cursor().First(); name != nil && t.meta == nil && t.facts == nil && t.diffids == nil {
			return fmt.Errorf("%s is a bbolt file of another program", path)
		}
		return err
	}
	format, err := t.metaValue(metaFormat)
	if err != nil {
		return err
	}
	switch n, err := strconv.Atoi(format); {
	case err != nil:
		return fmt.Errorf("%w: format %q", ErrDamaged, format)
	case n != fileFormat:
		return fmt.Errorf("index file %s has format %d, this version reads format %d", path, n, fileFormat)
	}
	if _, err := t.metaValue(metaID); err != nil {
		return err
	}
	for _, name := range []string{bucketFacts, bucketDiffIDs, bucketJudgements, bucketTwins, bucketLinks, bucketWrong} {
		b := tx.Bucket([]byte(name))
		if b == nil { // nobody has needed it yet
			continue
		}
		first, last := b.Cursor(), b.Cursor()
		f, _ := first.First()
		l, _ := last.Last()
		for n := 0; n < probeKeys && f != nil && l != nil; n++ {
			f, _ = first.Next()
			l, _ = last.Prev()
		}
	}
	return nil
}

// createFile makes an empty DiffID index under another name, and then has place
// give it the name path: bbolt's first writes to a file are not atomic.
func createFile(path string, place func(from, to string) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create DiffID index %s: %w", path, err)
		}
	}()
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // unless it was renamed
	db, err := bbolt.Open(tmp.Name(), 0o600, boltOptions(0, tmp))
	if err != nil {
		return err
	}
	id := make([]byte, 16)
	rand.Read(id)
	err = db.Update(func(tx *bbolt.Tx) error { return createTables(tx, hex.EncodeToString(id)) }) // syncs
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := place(tmp.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// linkOrRename gives from the name to, which no file had a moment ago. If one
// has it now, another process was faster and its file stays. Where there are
// no hard links, the last of two wins.
func linkOrRename(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.Rename(from, to)
}

// moveAside renames the file at path, whose lock the caller holds, and returns
// its new name.
func moveAside(path string) (string, error) {
	moved := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000Z")
	if err := os.Rename(path, moved); err != nil {
		return "", fmt.Errorf("move damaged DiffID index aside: %w", err)
	}
	return moved, nil
}

// isAt reports whether path is a name of the file that info is about.
func isAt(info os.FileInfo, path string) bool {
	now, err := os.Stat(path)
	return err == nil && os.SameFile(info, now)
}
