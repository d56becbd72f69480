package vision

import (
	"fmt"
	"os"
)

// maxFile is far beyond any camera's picture.
const maxFile = 256 << 20

// ReadFile reads a picture file, and refuses what is none by its kind or size: a
// device has no end.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file that holds a picture", path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, a picture has at most %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}
