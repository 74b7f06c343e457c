package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes of commands that judge.
const (
	exitMismatch  = 1
	exitUndecided = 2
)

// An exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error // nil when all was said already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// judging makes a command one that judges: whatever keeps it from an answer, bad
// flags too, is exit code 2, and a signal ends it in order.
func judging(cmd *cobra.Command) *cobra.Command {
	run, args := cmd.RunE, cmd.Args
	undecided := func(err error) error {
		if _, ok := err.(*exitError); ok || err == nil {
			return err
		}
		return &exitError{exitUndecided, err}
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends what does not look at ctx, like a read of standard input
		cmd.SetContext(ctx)
		return undecided(run(cmd, args))
	}
	cmd.Args = func(cmd *cobra.Command, got []string) error { return undecided(args(cmd, got)) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return undecided(err) })
	return cmd
}
