package vision

import (
	"fmt"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

func recipe(size, quality int) bundle.Camera {
	return bundle.Camera{
		Name: "head", JPEGQuality: quality, CropArea: 0.9,
		Resize: bundle.Resize{Width: size, Height: size, Filter: bundle.Lanczos3},
	}
}

func BenchmarkPipeline(b *testing.B) {
	stream := photographs(b)["head"]
	picture := decoded(b, stream)
	for _, size := range []int{224, 64} {
		for _, quality := range []int{0, 95} {
			for _, input := range []string{"rgb8", "bgr8", "jpeg"} {
				b.Run(fmt.Sprintf("%s_to_%d_quality_%d", input, size, quality), func(b *testing.B) {
					p, err := New(recipe(size, quality))
					if err != nil {
						b.Fatal(err)
					}
					dst := make([]byte, 3*size*size)
					b.ReportAllocs()
					for b.Loop() {
						if input == "jpeg" {
							err = p.JPEG(stream, dst)
						} else {
							err = p.Raw(Raw{Encoding: input, Width: 640, Height: 480, Step: 1920, Data: picture.RGB}, dst)
						}
						if err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
