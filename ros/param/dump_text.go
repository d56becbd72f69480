package param

import (
	"fmt"
	"regexp"
	"strings"
)

// dumpWidth is PyYAML's best_width: text beyond it goes on on the next line.
const dumpWidth = 80

// notText are plain words that PyYAML would read as something else than a string (yaml/resolver.py).
var notText = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF`,
	`~|null|Null|NULL|<<|=|`,
	`[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?`,
	`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)`,
	`[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+`,
	`[0-9]{4}-[0-9]{2}-[0-9]{2}`,
	`[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?`,
}, "|") + `)$`)

// scalar writes a string in the first of the styles plain, 'single' and "double" that PyYAML may use for it
// (Emitter.choose_scalar_style). A key stays on one line.
func (w *dumper) scalar(s string, indent int, key bool) {
	plain, single := stylesOf(s)
	switch {
	case plain && !notText.MatchString(s):
		w.folded(s, indent, key)
	case single && !(key && strings.Contains(s, "\n")):
		w.text("'")
		w.folded(strings.ReplaceAll(s, "'", "''"), indent, key)
		w.text("'")
	default:
		w.double([]rune(s), indent, key)
	}
}

// stylesOf tells whether a string may be written plain or in single quotes (Emitter.analyze_scalar, outside
// of flow style and with allow_unicode off).
func stylesOf(s string) (plain, single bool) {
	if s == "" {
		return true, true
	}
	for _, r := range s {
		if r != '\n' && (r < ' ' || r > '~') {
			return false, false
		}
	}
	if strings.Contains(s, "\n ") || strings.Contains(s, " \n") {
		return false, false
	}
	first, last := s[0], s[len(s)-1]
	plain = !strings.Contains(s, "\n") && first != ' ' && last != ' ' && last != ':' &&
		!strings.HasPrefix(s, "---") && !strings.HasPrefix(s, "...") &&
		!strings.ContainsRune("#,[]{}&*!|>'\"%@`", rune(first)) &&
		!strings.Contains(s, " #") && !strings.Contains(s, ": ") &&
		!((first == '?' || first == '-') && (len(s) == 1 || s[1] == ' '))
	return plain, true
}

// folded writes text that is plain or stands in single quotes: a single space beyond the width becomes a line
// break, unless it is a key's, and line breaks become one more (write_plain, write_single_quoted).
func (w *dumper) folded(s string, indent int, key bool) {
	for i := 0; i < len(s); {
		end := i + 1
		switch s[i] {
		case '\n':
			for ; end < len(s) && s[end] == '\n'; end++ {
			}
			w.out.WriteString(s[i:end])
			w.newline(indent)
		case ' ':
			for ; end < len(s) && s[end] == ' '; end++ {
			}
			if end-i == 1 && w.column > dumpWidth && !key && i != 0 && end != len(s) {
				w.newline(indent)
			} else {
				w.text(s[i:end])
			}
		default:
			for ; end < len(s) && s[end] != ' ' && s[end] != '\n'; end++ {
			}
			w.text(s[i:end])
		}
		i = end
	}
}

// dumpEscapes are the characters with a short name in double quotes.
var dumpEscapes = map[rune]string{
	0: "0", '\a': "a", '\b': "b", '\t': "t", '\n': "n", '\v': "v", '\f': "f", '\r': "r", 0x1b: "e",
	'"': `"`, '\\': `\`, 0x85: "N", 0xa0: "_", 0x2028: "L", 0x2029: "P",
}

// double writes a string in double quotes. Beyond the width a backslash at a space or behind an escape
// continues it on the next line, unless it is a key (write_double_quoted).
func (w *dumper) double(s []rune, indent int, key bool) {
	w.text(`"`)
	start := 0 // of what is not written yet
	for i := 0; i <= len(s); i++ {
		space := false
		if i == len(s) || s[i] == '"' || s[i] == '\\' || s[i] < ' ' || s[i] > '~' {
			w.text(string(s[start:i]))
			start = i
			if i < len(s) {
				w.text(dumpEscape(s[i]))
				start = i + 1
			}
		} else {
			space = s[i] == ' '
		}
		if !(0 < i && i < len(s)-1) || !space && start < i || w.column+i-start <= dumpWidth || key {
			continue
		}
		if start < i {
			w.text(string(s[start:i]))
			start = i
		}
		w.text(`\`)
		w.newline(indent)
		if s[start] == ' ' {
			w.text(`\`) // else it would be taken for indentation
		}
	}
	w.text(`"`)
}

func dumpEscape(r rune) string {
	if name, ok := dumpEscapes[r]; ok {
		return `\` + name
	}
	switch {
	case r <= 0xff:
		return fmt.Sprintf(`\x%02X`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04X`, r)
	}
	return fmt.Sprintf(`\U%08X`, r)
}
