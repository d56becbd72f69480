package report

import "github.com/ddvla/ddvla/policy/decode"

// decodingSum adds up traces.
type decodingSum struct {
	dims       int
	chunks     int
	rounds     int
	tokens     int
	remasked   int
	lasting    float64 // confidence of tokens when last committed
	lastings   int
	committed  [][]int // by round and dimension
	again      [][]int
	confidence [][]float64
}

// add adds a trace and returns what its rounds did; nil where the trace is not of
// whole rows.
func (s *decodingSum) add(t *decode.Trace) *Map {
	if t.Positions%s.dims != 0 {
		return nil
	}
	one := decodingSum{dims: s.dims, chunks: 1, rounds: t.Rounds(), tokens: t.Positions}
	for round := range t.Rounds() {
		one.grow(round + 1)
		for i := range t.Positions {
			d := i % s.dims
			switch t.Change(round, i) {
			case decode.Commits:
				one.committed[round][d]++
				one.confidence[round][d] += float64(t.Confidence[(round+1)*t.Positions+i])
			case decode.Remasks:
				one.again[round][d]++
				one.remasked++
			}
		}
	}
	for i := range t.Positions {
		// Tokens that were given were never decided.
		if c, ok := t.CommittedAt(t.Rounds()-1, i); ok && t.Bins[i] < 0 {
			one.lasting += float64(c)
			one.lastings++
		}
	}
	s.merge(&one)
	return one.mapped()
}

func (s *decodingSum) grow(rounds int) {
	for len(s.committed) < rounds {
		s.committed = append(s.committed, make([]int, s.dims))
		s.again = append(s.again, make([]int, s.dims))
		s.confidence = append(s.confidence, make([]float64, s.dims))
	}
}

func (s *decodingSum) merge(o *decodingSum) {
	s.grow(len(o.committed))
	s.chunks += o.chunks
	s.rounds += o.rounds
	s.tokens += o.tokens
	s.remasked += o.remasked
	s.lasting += o.lasting
	s.lastings += o.lastings
	for r := range o.committed {
		for d := range s.dims {
			s.committed[r][d] += o.committed[r][d]
			s.again[r][d] += o.again[r][d]
			s.confidence[r][d] += o.confidence[r][d]
		}
	}
}

func (s *decodingSum) mapped() *Map {
	m := &Map{Tokens: s.tokens / s.dims, Committed: s.committed, Remasked: s.again}
	for r := range s.confidence {
		row := make([]Figure, s.dims)
		for d, sum := range s.confidence[r] {
			row[d] = unknown()
			if n := s.committed[r][d]; n > 0 {
				row[d] = Figure(sum / float64(n))
			}
		}
		m.Confidence = append(m.Confidence, row)
	}
	return m
}

// decoding sums up; nil where nothing was decoded in rounds.
func (s *decodingSum) decoding() *Decoding {
	if s.chunks == 0 {
		return nil
	}
	d := &Decoding{
		Chunks: s.chunks, Rounds: Figure(float64(s.rounds) / float64(s.chunks)),
		Remasked: Figure(float64(s.remasked) / float64(s.tokens)), Confidence: unknown(), Map: *s.mapped(),
	}
	if s.lastings > 0 {
		d.Confidence = Figure(s.lasting / float64(s.lastings))
	}
	return d
}
