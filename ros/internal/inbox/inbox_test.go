package inbox

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// While the reader is busy, the box is the newest messages of all that came.
func TestBoxKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 20).Draw(t, "capacity")
		rounds := rapid.SliceOfN(rapid.IntRange(1, 50), 1, 4).Draw(t, "rounds")
		b := New[int](capacity)
		busy, resume := make(chan struct{}), make(chan struct{})
		var got, want []int
		go b.Run(func(m int) {
			got = append(got, m)
			if m < 0 {
				busy <- struct{}{}
				<-resume
			}
		})
		dropped, next := uint64(0), 0
		for _, n := range rounds {
			b.Put(-1)
			<-busy
			want = append(want, -1)
			for range n {
				next++
				b.Put(next)
			}
			lost := max(0, n-capacity)
			dropped += uint64(lost)
			for m := next - n + lost + 1; m <= next; m++ {
				want = append(want, m)
			}
			if b.Dropped() != dropped {
				t.Fatalf("%d dropped, want %d", b.Dropped(), dropped)
			}
			resume <- struct{}{}
			for b.waiting() > 0 { // let the reader catch up, else the next -1 would drop one
			}
		}
		b.Put(-1)
		<-busy
		want = append(want, -1)
		go func() { resume <- struct{}{} }()
		b.Close()
		b.Put(1)
		if !b.Closed() || !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func (b *Box[T]) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.length
}
