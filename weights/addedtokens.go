package weights

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// claim is what one place of one file says about a number.
type claim struct {
	where string
	id    int64
}

// agree returns the number that all claims make, or otherwise if there are none.
// Where two differ it names both.
func agree(what string, claims []claim, otherwise int64) (int64, error) {
	for _, c := range claims {
		if c.id == claims[0].id {
			continue
		}
		all := make([]string, len(claims))
		for i, c := range claims {
			all[i] = fmt.Sprintf("%s says %d", c.where, c.id)
		}
		return 0, fmt.Errorf("%w: the files disagree about the %s: %s; take all files from one checkpoint", ErrConfig, what, strings.Join(all, ", "))
	}
	if len(claims) == 0 {
		return otherwise, nil
	}
	return claims[0].id, nil
}

// Tokenizer files beside tokenizer.model; each may be absent.
const (
	addedTokensFile     = "added_tokens.json"
	specialTokensFile   = "special_tokens_map.json"
	tokenizerConfigFile = "tokenizer_config.json"
	fastTokenizerFile   = "tokenizer.json"
)

// Texts of the tokens that OpenVLA and Discrete Diffusion VLA add to Llama's.
const (
	maskText = "<mask>"
	padText  = "<PAD>"
)

// tokenText is a special token's text: a string, or an object with the string as
// its content.
type tokenText string

func (t *tokenText) UnmarshalJSON(raw []byte) error {
	var object struct {
		Content string `json:"content"`
	}
	if len(raw) > 0 && raw[0] == '{' {
		err := json.Unmarshal(raw, &object)
		*t = tokenText(object.Content)
		return err
	}
	return json.Unmarshal(raw, (*string)(t))
}

// addedTokens is what the tokenizer's files say about tokens beyond
// tokenizer.model's.
type addedTokens struct {
	ids  map[string][]claim // by text
	mask string             // text of the mask token
}

// readAddedTokens reads the files there are.
func (c *checkpoint) readAddedTokens() error {
	c.added = addedTokens{ids: map[string][]claim{}}
	add := func(where, text string, id int64) {
		c.added.ids[text] = append(c.added.ids[text], claim{where + " " + text, id})
	}
	var plain map[string]int64
	var special, config struct {
		Mask    tokenText `json:"mask_token"`
		Decoder map[string]struct {
			Content string `json:"content"`
		} `json:"added_tokens_decoder"`
	}
	var fast struct {
		Added []struct {
			ID      int64  `json:"id"`
			Content string `json:"content"`
		} `json:"added_tokens"`
	}
	for _, file := range []struct {
		name string
		into any
	}{{addedTokensFile, &plain}, {specialTokensFile, &special}, {tokenizerConfigFile, &config}, {fastTokenizerFile, &fast}} {
		found, err := readOptionalJSON(c.folder, file.name, file.into)
		if err != nil {
			return err
		}
		if found {
			c.reads(file.name)
		}
	}
	for text, id := range plain {
		add(addedTokensFile, text, id)
	}
	for number, token := range config.Decoder {
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %s added_tokens_decoder has a token %q, which is no number", ErrConfig, tokenizerConfigFile, number)
		}
		add(tokenizerConfigFile, token.Content, id)
	}
	for _, token := range fast.Added {
		add(fastTokenizerFile, token.Content, token.ID)
	}
	c.added.mask = maskText
	switch a, b := special.Mask, config.Mask; {
	case a != "" && b != "" && a != b:
		return fmt.Errorf("%w: the files disagree about the mask token: %s says %q, %s says %q; take all files from one checkpoint",
			ErrConfig, specialTokensFile, a, tokenizerConfigFile, b)
	case a != "":
		c.added.mask = string(a)
	case b != "":
		c.added.mask = string(b)
	}
	return nil
}

// maskID is the mask token's id by all files that name it. Where none does it is
// the second padding row, as in Discrete Diffusion VLA's configuration.
func (c *checkpoint) maskID(base int64) (int64, error) {
	return agree("mask token", c.maskClaims(), base+1)
}

func (c *checkpoint) maskClaims() []claim {
	return c.claims("mask_token_id", c.config.MaskTokenID, c.added.mask)
}

// padID is the padding token's id likewise; the first padding row by default.
func (c *checkpoint) padID(base int64) (int64, error) {
	claims := c.claims("pad_token_id", c.config.PadTokenID, padText)
	if id := c.config.Text.PadTokenID; id != nil {
		claims = append([]claim{{configFile + " text_config.pad_token_id", *id}}, claims...)
	}
	return agree("padding token", claims, base)
}

func (c *checkpoint) claims(key string, id *int64, text string) []claim {
	var list []claim
	if id != nil {
		list = append(list, claim{configFile + " " + key, *id})
	}
	return append(list, c.added.ids[text]...)
}
