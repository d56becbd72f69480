package param

import (
	"fmt"
	"strings"

	"github.com/ddvla/ddvla/ros"
)

// Args is what the command line says to ROS, between --ros-args and --.
type Args struct {
	Remaps    []ros.Remap
	LogLevels []LogLevel
	NoStdout  bool // --disable-stdout-logs
	NoRosout  bool // --disable-rosout-logs
	rules     []rule
}

// A LogLevel is given with --log-level [logger:=]level.
type LogLevel struct {
	Logger string // "" is the default of all loggers
	Level  string // debug, info, warn, error, fatal or unset
}

// ParseArgs takes the ROS arguments out of a command line, as rcl does: they stand between --ros-args and
// -- or the end, more than once if need be. rest is everything else. readFile reads a params file; it is
// os.ReadFile outside tests.
func ParseArgs(args []string, readFile func(string) ([]byte, error)) (a *Args, rest []string, err error) {
	a = &Args{}
	inside := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case !inside:
			if inside = arg == "--ros-args"; !inside {
				rest = append(rest, arg)
			}
			continue
		case arg == "--":
			inside = false
			continue
		case arg == "--ros-args":
			continue
		}
		value := func() (string, error) {
			if i++; i >= len(args) {
				return "", fmt.Errorf("%s is the last argument; its value is missing", arg)
			}
			return args[i], nil
		}
		var v string
		switch arg {
		case "-p", "--param", "-r", "--remap", "--params-file", "--log-level", "-e", "--enclave", "--log-config-file":
			if v, err = value(); err != nil {
				return nil, nil, err
			}
		}
		switch arg {
		case "-p", "--param":
			err = a.addParameter(v)
		case "-r", "--remap":
			var r ros.Remap
			if r, err = ros.ParseRemap(v); err == nil {
				a.Remaps = append(a.Remaps, r)
			}
		case "--params-file":
			err = a.addFile(v, readFile)
		case "--log-level":
			err = a.addLogLevel(v)
		case "-e", "--enclave", "--log-config-file":
			err = fmt.Errorf("%s is not supported: remove it", arg)
		case "--enable-stdout-logs", "--disable-stdout-logs":
			a.NoStdout = arg == "--disable-stdout-logs"
		case "--enable-rosout-logs", "--disable-rosout-logs":
			a.NoRosout = arg == "--disable-rosout-logs"
		case "--enable-external-lib-logs", "--disable-external-lib-logs":
			// There is no external logging library here, so both are true already.
		default:
			err = fmt.Errorf("unknown ROS argument %q; end ROS arguments with -- before others", arg)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return a, rest, nil
}

// addParameter reads "[node:]name:=value".
func (a *Args) addParameter(s string) error {
	left, right, ok := strings.Cut(s, ":=")
	if !ok {
		return fmt.Errorf("-p %s has no \":=\"; write name:=value", s)
	}
	node := "/**"
	if scope, name, scoped := strings.Cut(left, ":"); scoped {
		node, left = "/**/"+strings.TrimPrefix(scope, "/"), name
		if strings.HasPrefix(scope, "/") {
			node = scope
		}
		if _, err := nodePattern(node); err != nil || scope == "" {
			return fmt.Errorf("-p %s: %q is no node name", s, scope)
		}
	}
	if err := validName(left); err != nil {
		return fmt.Errorf("-p %s: %w", s, err)
	}
	v, err := parseValue(right)
	if err != nil {
		return fmt.Errorf("-p %s: %w", s, err)
	}
	a.rules = append(a.rules, rule{node, []Assignment{{left, v}}})
	return nil
}

func (a *Args) addFile(path string, readFile func(string) ([]byte, error)) error {
	data, err := readFile(path)
	if err != nil {
		return fmt.Errorf("params file: %w", err)
	}
	rules, err := parseFile(data)
	if err != nil {
		return fmt.Errorf("params file %s: %w", path, err)
	}
	a.rules = append(a.rules, rules...)
	return nil
}

func (a *Args) addLogLevel(s string) error {
	l := LogLevel{Level: strings.ToLower(s)}
	if logger, level, ok := strings.Cut(s, ":="); ok {
		l = LogLevel{logger, strings.ToLower(level)}
	}
	switch l.Level {
	case "debug", "info", "warn", "error", "fatal", "unset":
		a.LogLevels = append(a.LogLevels, l)
		return nil
	}
	return fmt.Errorf("--log-level %s: level must be debug, info, warn, error, fatal or unset", s)
}

// For returns what the command line and the params files say about a node, in the order given: of two
// assignments the later one counts. node is fully qualified, after remapping.
func (a *Args) For(node string) []Assignment {
	var out []Assignment
	for _, r := range a.rules {
		if p, err := nodePattern(r.node); err == nil && p.MatchString(node) {
			out = append(out, r.assignments...)
		}
	}
	return out
}

// LogLevel is the level that the command line asks for a logger, or "" if none. The last one counts, and
// one that names the logger before one for those that its name begins with (robot for robot.ddvla), and these
// before one for all.
func (a *Args) LogLevel(logger string) (level string) {
	asked := map[string]string{}
	for _, l := range a.LogLevels {
		asked[l.Logger] = l.Level
	}
	for asked[logger] == "" && logger != "" {
		logger = logger[:max(strings.LastIndexByte(logger, '.'), 0)]
	}
	return asked[logger]
}
