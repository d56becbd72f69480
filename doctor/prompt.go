package doctor

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// PromptReport is an instruction as the model reads it.
type PromptReport struct {
	Instruction string  `json:"instruction"`
	Prompt      string  `json:"prompt,omitempty"` // as tokenised
	Tokens      []Token `json:"tokens,omitempty"`
}

// Token is one of a prompt.
type Token struct {
	ID int64 `json:"id"`
	// Piece is its text, a word boundary as "▁".
	Piece string `json:"piece"`
}

// mostPrompts is how many instructions of a recording are shown.
const mostPrompts = 20

// prompts judges the instructions that were heard or given.
func (c *Case) prompts(r *Report) {
	l := c.Listener
	said := slices.Clone(l.instructions)
	if given := c.Settings.Instruction; given != "" && !slices.Contains(said, given) {
		said = slices.Insert(said, 0, given)
	}
	if l.misheard != nil {
		r.add(Error, "instruction-unreadable", "instruction", "publish std_msgs/msg/String there", "an instruction on %s cannot be read: %v", l.topics.Instruction, l.misheard)
	}
	if len(said) == 0 {
		mend := "publish one (ros2 topic pub --once " + l.topics.Instruction + " std_msgs/msg/String '{data: ...}') or set instruction; -p instruction:='TEXT' shows here how the model reads it"
		severity := Warning
		if c.Live {
			severity = Note // nobody has said one yet
		}
		r.add(severity, "instruction-none", "instruction", mend, "no instruction was heard on %s", l.topics.Instruction)
	}
	if c.Tokenizer == nil {
		return
	}
	var known map[string]bool
	for _, k := range c.Known {
		if known == nil {
			known = map[string]bool{}
		}
		for _, w := range words(k) {
			known[w] = true
		}
	}
	for i, instruction := range said {
		if i == mostPrompts {
			r.add(Note, "instruction-many", "instruction", "", "%d instructions more are not shown", len(said)-i)
			break
		}
		c.prompt(r, instruction, known)
	}
}

// prompt judges one instruction.
func (c *Case) prompt(r *Report, instruction string, known map[string]bool) {
	p := PromptReport{Instruction: instruction}
	ids, text, err := c.Tokenizer.Prompt(instruction)
	p.Prompt = text
	if err != nil {
		r.Prompts = append(r.Prompts, p)
		r.add(Error, "instruction-refused", instruction, "say it in fewer words, or otherwise", "the model cannot be given %q: %v", instruction, err)
		return
	}
	for i, piece := range c.Tokenizer.Pieces(ids) {
		p.Tokens = append(p.Tokens, Token{ids[i], piece})
	}
	r.Prompts = append(r.Prompts, p)

	trimmed := strings.TrimSpace(instruction)
	if last, _ := utf8.DecodeLastRuneInString(trimmed); strings.ContainsRune(".!?,;:", last) && c.stop(known, last) {
		r.add(Warning, "instruction-stop", instruction, "leave it out: "+strings.TrimRight(trimmed, ".!?,;: "),
			"%q ends with %q, which instructions of training data seldom do and which can break a task", instruction, string(last))
	}
	if strings.Join(strings.Fields(trimmed), " ") != trimmed {
		r.add(Warning, "instruction-spaces", instruction, "put one space between words", "%q has white space that the tokens show", instruction)
	}
	var unseen, broken []string
	for _, w := range words(instruction) {
		if known != nil && !known[w] && !slices.Contains(unseen, w) {
			unseen = append(unseen, w)
		}
		if c.broken(w) && !slices.Contains(broken, w) {
			broken = append(broken, w)
		}
	}
	if len(unseen) > 0 {
		r.add(Warning, "instruction-unseen", instruction, "use the words of the training data",
			"%q has words that no known instruction has: %s", instruction, strings.Join(unseen, ", "))
	}
	if len(broken) > 0 {
		r.add(Warning, "instruction-pieces", instruction, "use words that the vocabulary has; it tells which were frequent",
			"%q has words that fall into single letters or bytes, as words do that the tokenizer's training text hardly had: %s", instruction, strings.Join(broken, ", "))
	}
}

// stop tells whether a closing mark is none of the known instructions'.
func (c *Case) stop(known map[string]bool, mark rune) bool {
	return known == nil || !slices.ContainsFunc(c.Known, func(k string) bool { return strings.HasSuffix(strings.TrimSpace(k), string(mark)) })
}

// words are those of an instruction, in lower case and without punctuation around.
func words(instruction string) []string {
	var out []string
	for _, w := range strings.Fields(strings.ToLower(instruction)) {
		if w = strings.TrimFunc(w, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// broken tells whether a word of three letters or more is less than two letters a
// piece, as it stands in the middle of a prompt.
func (c *Case) broken(word string) bool {
	letters := utf8.RuneCountInString(word)
	if letters < 3 {
		return false
	}
	// Two prompts that differ by the word: what stands around it may be split otherwise
	// only by merging with it, which a boundary prevents.
	with, _, err := c.Tokenizer.Prompt("a " + word + " a")
	without, _, err2 := c.Tokenizer.Prompt("a a")
	if err != nil || err2 != nil {
		return false
	}
	return 2*(len(with)-len(without)) > letters
}
