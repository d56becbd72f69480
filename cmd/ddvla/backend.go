package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/cyclone"
	"github.com/ddvla/ddvla/ros/rclgo"
)

// backend is the ROS middleware a process uses.
type backend string

// backendFlag adds --backend to flags. A binary built with the tag rclgo speaks
// through the ROS installation it was built for; any other speaks Cyclone DDS
// itself.
func backendFlag(flags *flag.FlagSet) *backend {
	b := backend("cyclone")
	if rclgo.Available {
		b = "rclgo"
	}
	flags.StringVar((*string)(&b), "backend", string(b), "cyclone or rclgo")
	return &b
}

// node makes a node on the back end.
func (b backend) node(ctx context.Context, options ros.Options) (ros.Node, error) {
	switch b {
	case "cyclone":
		return cyclone.NewNode(ctx, options)
	case "rclgo":
		return rclgo.NewNode(ctx, options)
	}
	return nil, usageError{fmt.Errorf("--backend is %q, must be cyclone or rclgo", string(b))}
}

// consoleLogger writes human-readable lines from level upwards.
func consoleLogger(w io.Writer, level string) *zap.Logger {
	at, err := zapcore.ParseLevel(level)
	if err != nil {
		at = zapcore.InfoLevel
	}
	return zap.New(consoleCore(w, at))
}

func consoleCore(w io.Writer, level zapcore.LevelEnabler) zapcore.Core {
	config := zap.NewDevelopmentEncoderConfig()
	config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	config.EncodeCaller = nil
	return zapcore.NewCore(zapcore.NewConsoleEncoder(config), zapcore.Lock(zapcore.AddSync(w)), level)
}
