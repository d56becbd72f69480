package bag

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The names of what bags are compressed with: of MCAP's chunks, and of
// compression_format in metadata.yaml.
const (
	formatNone = ""
	formatZstd = "zstd"
	formatLZ4  = "lz4"
)

// packed tells by its first bytes what data are compressed with: those of a zstd
// frame (RFC 8878, 3.1.1) and of an lz4 frame. No CDR begins like them: its first
// byte is 0.
func packed(begin []byte) string {
	switch {
	case bytes.HasPrefix(begin, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return formatZstd
	case bytes.HasPrefix(begin, []byte{0x04, 0x22, 0x4d, 0x18}):
		return formatLZ4
	}
	return formatNone
}

// uncompressor has the decoders of all formats and uses them again. The zero
// value is ready.
type uncompressor struct {
	zstd *zstd.Decoder
	lz4  *lz4.Reader
}

// reader returns what source holds, uncompressed, until the next call.
func (u *uncompressor) reader(format string, source io.Reader) (io.Reader, error) {
	switch format {
	case formatNone:
		return source, nil
	case formatZstd:
		if u.zstd == nil {
			decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(maxChunkSize), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			u.zstd = decoder
		}
		if err := u.zstd.Reset(source); err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
		}
		return u.zstd, nil
	case formatLZ4:
		if u.lz4 == nil {
			u.lz4 = lz4.NewReader(nil)
		}
		u.lz4.Reset(source)
		return u.lz4, nil
	}
	return nil, fmt.Errorf("%w: compressed with %q", ErrUnsupported, format)
}

// all appends what data hold, uncompressed, to out, up to maxChunkSize bytes.
func (u *uncompressor) all(format string, data, out []byte) ([]byte, error) {
	source, err := u.reader(format, bytes.NewReader(data))
	if err != nil {
		return out, err
	}
	// The memory grows with what is really there, not with what the data say.
	into := bytes.NewBuffer(out)
	n, err := io.Copy(into, io.LimitReader(source, maxChunkSize+1))
	if n > maxChunkSize {
		err = fmt.Errorf("%w: more than %d bytes", ErrCorrupt, maxChunkSize)
	}
	return into.Bytes(), err
}

func (u *uncompressor) close() {
	if u.zstd != nil {
		u.zstd.Close()
	}
}
