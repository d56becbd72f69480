package main

import (
	"context"
	"errors"
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/rosout"
)

// runNode is `ddvla node`: the policy node on a ROS graph.
func runNode(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := newFlags("node", "[--backend cyclone|rclgo] --ros-args -p policy:=BUNDLE [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO]")
	backend := backendFlag(flags)
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0, stdout); err != nil {
		return err
	}
	c, err := configure(rosArgs)
	if err != nil {
		return err
	}
	console := zapcore.NewNopCore()
	if !c.args.NoStdout {
		console = consoleCore(stderr, c.level)
	}
	c.options.Logger = zap.New(console)
	rn, err := backend.node(ctx, c.options)
	if err != nil {
		return err
	}
	closing := func(c io.Closer) {
		// What is being loaded holds on to it; the process ends it.
		if !errors.Is(err, node.ErrLoading) {
			err = errors.Join(err, c.Close())
		}
	}
	defer func() { closing(rn) }()
	published := zapcore.NewNopCore()
	if !c.args.NoRosout {
		out, failed := rosout.New(rn, c.level)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, out.Close()) }()
		published = out
	}
	m, err := c.manage(ctx, rn, zap.New(zapcore.NewTee(console, published)))
	if err == nil {
		err = m.Run(ctx, c.settings.Autostart)
	}
	if err != nil {
		// For those who watch /rosout only; the console gets what is returned.
		zap.New(published).Error("node failed", zap.Error(err))
	}
	return err
}

// configuration is what the command line says about a node.
type configuration struct {
	args     *param.Args
	options  ros.Options
	names    *ros.Names
	level    zapcore.Level
	manifest *bundle.Manifest
	set      *param.Set
	settings node.Settings
}

// configure reads ROS arguments. extra are assignments that come before the
// command line's own.
func configure(args *param.Args, extra ...param.Assignment) (*configuration, error) {
	return configureFor(nil, args, extra...)
}

// logLevel is what the command line asks for the node's logger, empty where nothing.
func (c *configuration) logLevel() string {
	return c.args.LogLevel(rosout.LoggerName(c.names.FullyQualified()))
}

// configureFor is configure with a manifest that stands in for a bundle's where no
// bundle is given; nil stands for none.
func configureFor(instead *bundle.Manifest, args *param.Args, extra ...param.Assignment) (*configuration, error) {
	c := &configuration{args: args, options: ros.Options{Name: "ddvla", Remaps: args.Remaps}}
	if err := c.options.FromEnvironment(os.LookupEnv); err != nil {
		return nil, err
	}
	var err error
	if c.names, err = ros.NewNames(c.options); err != nil {
		return nil, usageError{err}
	}
	c.level = zapcore.InfoLevel
	if level := c.logLevel(); level != "" && level != "unset" {
		if c.level, err = zapcore.ParseLevel(level); err != nil {
			return nil, usageError{err}
		}
	}
	given := append(extra, args.For(c.names.FullyQualified())...)
	if c.set, c.manifest, err = declare(given, c.names); err != nil {
		return nil, err
	}
	if c.manifest == nil {
		c.manifest = instead
	}
	if c.manifest == nil {
		return nil, usageError{errors.New("parameter policy is not set; give the directory of a bundle that `ddvla export` wrote: --ros-args -p policy:=DIR")}
	}
	if c.settings, err = node.SettingsFrom(c.set.Values(), c.manifest, c.names); err != nil {
		return nil, err
	}
	return c, nil
}

// declare is node.Declare, whose complaints about parameters are wrong usage.
func declare(given []param.Assignment, names *ros.Names) (*param.Set, *bundle.Manifest, error) {
	set, m, err := node.Declare(given, names)
	var wrong node.ParameterError
	if errors.As(err, &wrong) {
		err = usageError{wrong.Unwrap()}
	}
	return set, m, err
}

// live is what has live settings.
type live interface{ SetLive(node.Live) error }

// serve serves the node's parameters, whose live ones go to n.
func (c *configuration) serve(rn ros.Node, n live, log *zap.Logger) error {
	for _, name := range c.set.Undeclared() {
		log.Warn("unknown parameter ignored; `ddvla params` lists them", zap.String("name", name))
	}
	if err := c.set.Check(func(v param.Values) error {
		_, err := node.LiveFrom(v, c.manifest)
		return err
	}); err != nil {
		return err
	}
	c.set.Watch(func(changed []string, v param.Values) {
		live, err := node.LiveFrom(v, c.manifest)
		if err == nil {
			err = n.SetLive(live)
		}
		if err != nil {
			log.Error("not all parameters were applied", zap.Strings("changed", changed), zap.Error(err))
			return
		}
		log.Info("parameters changed", zap.Strings("changed", changed))
	})
	return param.Serve(rn, c.set, log)
}

// start makes an active node, without a lifecycle, and serves its parameters. log
// also goes to what it runs on.
func (c *configuration) start(ctx context.Context, rn ros.Node, log *zap.Logger) (*node.Node, error) {
	settings := c.settings
	settings.Runtime.Logger = log
	n, err := node.New(ctx, rn, settings, log)
	if err != nil {
		return nil, err
	}
	if err := c.serve(rn, n, log); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.Activate()
	return n, nil
}

// manage makes a node with a lifecycle, unconfigured, and serves its parameters.
func (c *configuration) manage(ctx context.Context, rn ros.Node, log *zap.Logger) (*node.Managed, error) {
	m, err := node.Manage(ctx, rn, func() (node.Settings, error) {
		settings, err := node.SettingsFrom(c.set.Values(), c.manifest, c.names)
		settings.Runtime.Logger = log
		return settings, err
	}, log)
	if err != nil {
		return nil, err
	}
	return m, c.serve(rn, m, log)
}
