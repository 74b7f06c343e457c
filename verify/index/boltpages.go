package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// What is needed of bbolt's file format, which is its internal/common:
//
//	page     id[8] flags[2] count[2] overflow[4] ...
//	meta     magic[4] version[4] page size[4] flags[4] root[8] sequence[8]
//	         freelist[8] pages[8] transaction[8] FNV-64a[8]
//	branch   elements { offset[4] key size[4] page[8] }
//	leaf     elements { flags[4] offset[4] key size[4] value size[4] }
//	bucket   root[8] sequence[8], the value of a leaf element with flag 1
const (
	pageHeader = 16
	elementLen = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaLen     = 56 // up to the checksum

	// maxHeight is more levels than a tree in a file can have.
	maxHeight = 64
)

// checkPages reports damage that bbolt would not survive, before it maps a file
// of size bytes: pages beyond the end, whose access is a fault; a freelist with
// a wild length, which it would allocate; and trees that come back to a page,
// in which it would descend until the stack overflows, the one panic that
// cannot be recovered from. It reads the freelist and the branch pages, which
// are a few percent of the file. Damage to leaves it does not see.
func checkPages(r io.ReaderAt, size int64) error {
	meta, err := latestMeta(r)
	if err != nil {
		return err
	}
	if have := uint64(size) / meta.pageSize; have < meta.pages {
		return fmt.Errorf("truncated: %d pages of %d", have, meta.pages)
	}
	c := &pageCheck{r: r, meta: meta, seen: make([]bool, meta.pages)}
	c.seen[0], c.seen[1] = true, true
	if err := c.freelist(); err != nil {
		return err
	}
	var buckets []uint64
	err = c.tree(meta.root, func(leaf []byte) (err error) {
		buckets, err = appendBuckets(buckets, leaf)
		return err
	})
	for _, root := range buckets {
		if err == nil {
			err = c.tree(root, nil)
		}
	}
	return err
}

// A meta is what a meta page says.
type meta struct {
	pageSize, root, freelist, pages, tx uint64
}

// latestMeta returns what bbolt will open the file with: the later meta page if
// it is whole, else the other.
func latestMeta(r io.ReaderAt) (meta, error) {
	if m, ok := readMeta(r, 0); ok {
		if other, ok := readMeta(r, int64(m.pageSize)); ok && other.tx > m.tx {
			return other, nil
		}
		return m, nil
	}
	for size := int64(1 << 10); size <= 1<<24; size *= 2 {
		if m, ok := readMeta(r, size); ok && m.pageSize == uint64(size) {
			return m, nil
		}
	}
	return meta{}, errors.New("no valid meta page")
}

func readMeta(r io.ReaderAt, offset int64) (m meta, ok bool) {
	m, version, ok := readAnyMeta(r, offset)
	return m, ok && version == metaVersion && m.pageSize >= 1<<10 && m.pageSize <= 1<<24 && m.pages > 2
}

// readAnyMeta reads a whole meta page of whatever version of the format.
func readAnyMeta(r io.ReaderAt, offset int64) (m meta, version uint32, ok bool) {
	var page [pageHeader + metaLen + 8]byte
	if _, err := r.ReadAt(page[:], offset); err != nil {
		return m, 0, false
	}
	b, order := page[pageHeader:], binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:metaLen])
	m = meta{
		pageSize: uint64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		tx:       order.Uint64(b[48:]),
	}
	return m, order.Uint32(b[4:]), order.Uint32(b) == metaMagic && order.Uint64(b[metaLen:]) == sum.Sum64()
}

// A pageCheck remembers which pages have been accounted for.
type pageCheck struct {
	r    io.ReaderAt
	meta meta
	seen []bool // by page; as many as the file has
}

// claim accounts for n pages from id on.
func (c *pageCheck) claim(id, n uint64) error {
	if id >= c.meta.pages || n > c.meta.pages-id {
		return fmt.Errorf("page %d is beyond the end", id)
	}
	for ; n > 0; id, n = id+1, n-1 {
		if c.seen[id] {
			return fmt.Errorf("page %d is used twice", id)
		}
		c.seen[id] = true
	}
	return nil
}

// read returns page id with its overflow, and its flags.
func (c *pageCheck) read(id uint64) (page []byte, flags uint16, err error) {
	if id >= c.meta.pages {
		return nil, 0, fmt.Errorf("page %d is beyond the end", id)
	}
	page = make([]byte, c.meta.pageSize)
	if _, err := c.r.ReadAt(page, int64(id*c.meta.pageSize)); err != nil {
		return nil, 0, fmt.Errorf("page %d: %w", id, err)
	}
	order := binary.NativeEndian
	if got := order.Uint64(page); got != id {
		return nil, 0, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	if more := uint64(order.Uint32(page[12:])); more > 0 {
		if more >= c.meta.pages-id {
			return nil, 0, fmt.Errorf("page %d is beyond the end", id)
		}
		page = append(page, make([]byte, more*c.meta.pageSize)...)
		if _, err := c.r.ReadAt(page, int64(id*c.meta.pageSize)); err != nil {
			return nil, 0, fmt.Errorf("page %d: %w", id, err)
		}
	}
	return page, order.Uint16(page[8:]), nil
}

// freelist claims the pages that are free and those that say so.
func (c *pageCheck) freelist() error {
	page, flags, err := c.read(c.meta.freelist)
	if err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	if flags != flagFreelist {
		return fmt.Errorf("freelist: page %d has flags %#x", c.meta.freelist, flags)
	}
	order := binary.NativeEndian
	n, ids := uint64(order.Uint16(page[10:])), page[pageHeader:]
	if n == 0xFFFF { // the count is the first element
		n, ids = order.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return fmt.Errorf("freelist: %d pages do not fit", n)
	}
	if err := c.claim(c.meta.freelist, uint64(len(page))/c.meta.pageSize); err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	for i := range n {
		if err := c.claim(order.Uint64(ids[8*i:]), 1); err != nil {
			return fmt.Errorf("freelist: %w", err)
		}
	}
	return nil
}

// tree claims the pages of the tree at root. It reads the leaves only if there
// is a function to show them to.
func (c *pageCheck) tree(root uint64, leaf func(page []byte) error) error {
	// All leaves of a bbolt tree are at the same height, so the way to the
	// first tells where the others are.
	height := 0
	for id := root; ; height++ {
		page, flags, err := c.read(id)
		if err != nil {
			return err
		}
		if flags == flagLeaf {
			break
		}
		children, err := children(page, flags)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		if id = children[0]; height == maxHeight {
			return fmt.Errorf("the tree at page %d has no leaves", root)
		}
	}
	return c.subtree(root, height, leaf)
}

func (c *pageCheck) subtree(id uint64, height int, leaf func(page []byte) error) error {
	if err := c.claim(id, 1); err != nil {
		return err
	}
	if height == 0 && leaf == nil {
		return nil
	}
	page, flags, err := c.read(id)
	if err != nil {
		return err
	}
	if height == 0 {
		if flags != flagLeaf {
			return fmt.Errorf("page %d has flags %#x", id, flags)
		}
		return leaf(page)
	}
	children, err := children(page, flags)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for _, child := range children {
		if err := c.subtree(child, height-1, leaf); err != nil {
			return err
		}
	}
	return nil
}

// children returns the pages that a branch page leads to, one at least.
func children(page []byte, flags uint16) ([]uint64, error) {
	order := binary.NativeEndian
	n := int(order.Uint16(page[10:]))
	switch {
	case flags != flagBranch:
		return nil, fmt.Errorf("flags %#x", flags)
	case n == 0 || pageHeader+n*elementLen > len(page):
		return nil, fmt.Errorf("%d elements", n)
	}
	ids := make([]uint64, n)
	var last []byte
	for i := range ids {
		element := page[pageHeader+i*elementLen:]
		start, size := uint64(order.Uint32(element)), uint64(order.Uint32(element[4:]))
		if start+size > uint64(len(element)) {
			return nil, fmt.Errorf("key %d is beyond the end", i)
		}
		key := element[start : start+size]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return nil, fmt.Errorf("key %d is out of order", i)
		}
		ids[i], last = order.Uint64(element[8:]), key
	}
	return ids, nil
}

// appendBuckets appends the roots of the buckets in a leaf page; a bucket that
// is small enough is in the leaf itself and has none.
func appendBuckets(roots []uint64, page []byte) ([]uint64, error) {
	order := binary.NativeEndian
	n := int(order.Uint16(page[10:]))
	if pageHeader+n*elementLen > len(page) {
		return nil, fmt.Errorf("%d elements", n)
	}
	for i := range n {
		element := page[pageHeader+i*elementLen:]
		value := uint64(order.Uint32(element[4:])) + uint64(order.Uint32(element[8:]))
		if order.Uint32(element)&1 == 0 {
			continue
		}
		if value+16 > uint64(len(element)) {
			return nil, fmt.Errorf("bucket %d is beyond the end", i)
		}
		if root := order.Uint64(element[value:]); root != 0 {
			roots = append(roots, root)
		}
	}
	return roots, nil
}
