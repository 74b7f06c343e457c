// Package inflate decodes gzip files (RFC 1952) for one purpose: to hash what is
// in them, and to be sure that everybody else reads the same in them.
//
// It takes its input and gives out its output in large slices that nobody
// copies, and lets the taker look at the last ones while it goes on. It accepts
// the DEFLATE streams (RFC 1951) that compress/flate and zlib accept. Of the
// framing around them it accepts less than other readers do, because these
// differ in reserved flags, header checksums, cut headers and in what may follow
// the last member, so that one file has different contents on different
// machines. What [Gunzip] accepts, every mainstream reader decodes to the same
// bytes or refuses.
//
// With the build tag klauspost, DEFLATE is decoded by
// github.com/klauspost/compress/flate instead, at about half the speed.
package inflate
