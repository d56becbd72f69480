//go:build !rclgo

package rclgo

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/ros"
)

func TestDisabledBackEndSaysWhatToDo(t *testing.T) {
	if _, err := NewNode(context.Background(), ros.Options{Name: "n"}); !errors.Is(err, ErrDisabled) || !strings.Contains(err.Error(), "-tags rclgo") {
		t.Errorf("error %v", err)
	}
}
