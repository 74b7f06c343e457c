package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"diffgate/cmd/proxy/settings"
)

// A serving is the listeners and their servers.
type serving struct {
	log    *zap.Logger
	main   *http.Server
	admin  *http.Server // nil without an admin listener
	mainL  net.Listener
	adminL net.Listener
	failed chan error
}

func (s *serving) addr() string { return s.mainL.Addr().String() }

func (s *serving) debugAddr() string {
	if s.adminL == nil {
		return ""
	}
	return s.adminL.Addr().String()
}

// listen starts the servers. When it returns an error nothing listens.
func listen(h settings.HTTP, main, adm http.Handler, log *zap.Logger) (*serving, error) {
	s := &serving{log: log, failed: make(chan error, 2)}
	conf, err := tlsConfig(h.TLS)
	if err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	if s.mainL, err = net.Listen("tcp", h.Addr); err != nil {
		return nil, fmt.Errorf("http.addr: %w", err)
	}
	s.main = newServer(main, log)
	s.main.TLSConfig = conf
	if h.Debug.Addr != "" {
		if s.adminL, err = net.Listen("tcp", h.Debug.Addr); err != nil {
			return nil, errors.Join(fmt.Errorf("http.debug.addr: %w", err), s.mainL.Close())
		}
		s.admin = newServer(adm, log)
		go func() { s.failed <- s.admin.Serve(s.adminL) }()
	}
	go func() {
		if conf != nil {
			s.failed <- s.main.ServeTLS(s.mainL, "", "")
			return
		}
		s.failed <- s.main.Serve(s.mainL)
	}()
	return s, nil
}

// newServer returns a server whose deadlines no long layer can hit: the proxy
// sets those of a transfer as it goes on.
func newServer(h http.Handler, log *zap.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          stdLog(log),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
	}
}

// untilSignal serves until ctx ends or a signal comes, and drains.
func (s *serving) untilSignal(ctx context.Context, drain time.Duration) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	select {
	case err := <-s.failed:
		return errors.Join(err, s.close())
	case <-ctx.Done():
	}
	stop()
	s.log.Info("stopping", zap.Duration("http.draintimeout", drain))
	again, stopAgain := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stopAgain()
	until, cancel := context.WithTimeout(again, drain)
	defer cancel()
	if err := s.main.Shutdown(until); err != nil {
		s.log.Warn("requests were cut", zap.Error(err))
	}
	return s.close()
}

func (s *serving) close() error {
	err := s.main.Close()
	if s.admin != nil {
		err = errors.Join(err, s.admin.Close())
	}
	s.log.Info("stopped")
	return err
}
