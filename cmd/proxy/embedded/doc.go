// Package embedded is a whole registry in the process: distribution's handlers
// over a directory. It serves when no upstream is configured, so that one
// command is a verified registry.
//
// The build tag slim leaves it out, with the sixty modules it brings.
package embedded
