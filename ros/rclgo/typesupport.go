//go:build rclgo

package rclgo

/*
#cgo CFLAGS: -I/opt/ros/humble/include/rmw -I/opt/ros/humble/include/rcutils
#cgo CFLAGS: -I/opt/ros/humble/include/rosidl_runtime_c -I/opt/ros/humble/include/rosidl_typesupport_interface
#cgo LDFLAGS: -L/opt/ros/humble/lib -lrmw_implementation -lrmw -lrcutils -ldl

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <rcutils/allocator.h>
#include <rmw/error_handling.h>
#include <rmw/rmw.h>
#include <rmw/serialized_message.h>

static void *call_get (void *function) { return ((void *(*) (void)) function) (); }
static void call_destroy (void *function, void *message) { ((void (*) (void *)) function) (message); }

static rmw_ret_t from_cdr (const void *bytes, size_t size, void *support, void *message)
{
  rmw_serialized_message_t s = rmw_get_zero_initialized_serialized_message ();
  s.buffer = (uint8_t *) bytes;
  s.buffer_length = s.buffer_capacity = size;
  s.allocator = rcutils_get_default_allocator ();
  return rmw_deserialize (&s, support, message);
}

static void *reallocate_filled (void *p, size_t size, void *fill)
{
  void *q = realloc (p, size);
  if (p == NULL && q != NULL)
    memset (q, *(unsigned char *) fill, size);
  return q;
}

// What the middleware does not write is fill: rmw_fastrtps leaves out padding, and takes for the length what it
// estimated. The caller frees s->buffer, which is malloc's.
static rmw_ret_t serialize (const void *message, void *support, unsigned char fill, rmw_serialized_message_t *s)
{
  *s = rmw_get_zero_initialized_serialized_message ();
  rcutils_allocator_t allocator = rcutils_get_default_allocator ();
  allocator.reallocate = reallocate_filled;
  allocator.state = &fill;
  rmw_ret_t rc = rmw_serialized_message_init (s, 0, &allocator);
  if (rc != RMW_RET_OK)
    return rc;
  rc = rmw_serialize (message, support, s);
  if (rc != RMW_RET_OK) {
    rmw_ret_t freed = rmw_serialized_message_fini (s);
    (void) freed; // rc is what went wrong first
  }
  return rc;
}

// The message ends where what is written does. The caller frees *bytes.
static rmw_ret_t to_cdr (const void *message, void *support, void **bytes, size_t *size)
{
  rmw_serialized_message_t zeros, ones;
  rmw_ret_t rc = serialize (message, support, 0, &zeros);
  if (rc != RMW_RET_OK)
    return rc;
  rc = serialize (message, support, 0xff, &ones);
  if (rc != RMW_RET_OK) {
    free (zeros.buffer);
    return rc;
  }
  *bytes = zeros.buffer;
  *size = zeros.buffer_length;
  while (*size > 0 && zeros.buffer[*size - 1] != ones.buffer[*size - 1])
    --*size;
  free (ones.buffer);
  return RMW_RET_OK;
}

static char *take_error (void)
{
  char *copy = strdup (rmw_get_error_string ().str);
  rmw_reset_error ();
  return copy;
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/tiiuae/rclgo/pkg/rclgo/types"

	"github.com/ddvla/ddvla/ros"
)

// serviceSupport lets rclgo carry a service's halves as CDR bytes without generated Go code: the message
// structs are made, filled and freed by the package's C libraries.
type serviceSupport struct {
	request, response *halfSupport
	handle            unsafe.Pointer // rosidl_service_type_support_t
}

func (s *serviceSupport) Request() types.MessageTypeSupport  { return s.request }
func (s *serviceSupport) Response() types.MessageTypeSupport { return s.response }
func (s *serviceSupport) TypeSupport() unsafe.Pointer        { return s.handle }

// loadService finds the symbols of "std_srvs/srv/Trigger" in its package's libraries. These stay loaded
// as long as the process runs.
func loadService(typ string) (*serviceSupport, error) {
	pkg, name, err := ros.SplitType(typ, "srv")
	if err != nil {
		return nil, err
	}
	supports, err := open("lib" + pkg + "__rosidl_typesupport_c.so")
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", typ, err)
	}
	generator, err := open("lib" + pkg + "__rosidl_generator_c.so")
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", typ, err)
	}
	half := func(suffix string) (*halfSupport, error) {
		h := &halfSupport{typ: typ + suffix}
		get, err := symbol(supports, "rosidl_typesupport_c__get_message_type_support_handle__"+pkg+"__srv__"+name+suffix)
		if err != nil {
			return nil, err
		}
		h.handle = C.call_get(get)
		if h.create, err = symbol(generator, pkg+"__srv__"+name+suffix+"__create"); err != nil {
			return nil, err
		}
		h.destroy, err = symbol(generator, pkg+"__srv__"+name+suffix+"__destroy")
		return h, err
	}
	s := &serviceSupport{}
	if s.request, err = half("_Request"); err != nil {
		return nil, err
	}
	if s.response, err = half("_Response"); err != nil {
		return nil, err
	}
	get, err := symbol(supports, "rosidl_typesupport_c__get_service_type_support_handle__"+pkg+"__srv__"+name)
	if err != nil {
		return nil, err
	}
	s.handle = C.call_get(get)
	return s, nil
}

func open(library string) (unsafe.Pointer, error) {
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	lib := C.dlopen(name, C.RTLD_LAZY)
	if lib == nil {
		return nil, fmt.Errorf("%s; is its package installed and on LD_LIBRARY_PATH?", C.GoString(C.dlerror()))
	}
	return lib, nil
}

func symbol(lib unsafe.Pointer, name string) (unsafe.Pointer, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	sym := C.dlsym(lib, cname)
	if sym == nil {
		return nil, fmt.Errorf("%s", C.GoString(C.dlerror()))
	}
	return sym, nil
}

// halfSupport converts between CDR bytes and the C struct of a request or response.
type halfSupport struct {
	typ             string
	handle          unsafe.Pointer // rosidl_message_type_support_t
	create, destroy unsafe.Pointer // functions of the generated C code
}

// rawMessage is a message as CDR bytes. err tells of a conversion that failed, where rclgo's interface has
// no room for it.
type rawMessage struct {
	raw     []byte
	err     error
	support *halfSupport
}

func (m *rawMessage) CloneMsg() types.Message {
	return &rawMessage{raw: append([]byte(nil), m.raw...), err: m.err, support: m.support}
}
func (m *rawMessage) SetDefaults()                             {}
func (m *rawMessage) GetTypeSupport() types.MessageTypeSupport { return m.support }

func (h *halfSupport) New() types.Message             { return &rawMessage{support: h} }
func (h *halfSupport) PrepareMemory() unsafe.Pointer  { return C.call_get(h.create) }
func (h *halfSupport) ReleaseMemory(p unsafe.Pointer) { C.call_destroy(h.destroy, p) }
func (h *halfSupport) TypeSupport() unsafe.Pointer    { return h.handle }

// AsCStruct decodes the bytes into the struct.
func (h *halfSupport) AsCStruct(dst unsafe.Pointer, src types.Message) {
	m := src.(*rawMessage)
	if rc := C.from_cdr(unsafe.Pointer(&m.raw[0]), C.size_t(len(m.raw)), h.handle, dst); rc != C.RMW_RET_OK {
		m.err = fmt.Errorf("%s: %w", h.typ, rmwError())
	}
}

// AsGoStruct encodes the struct.
func (h *halfSupport) AsGoStruct(dst types.Message, src unsafe.Pointer) {
	m := dst.(*rawMessage)
	var bytes unsafe.Pointer
	var size C.size_t
	if rc := C.to_cdr(src, h.handle, &bytes, &size); rc != C.RMW_RET_OK {
		m.err = fmt.Errorf("%s: %w", h.typ, rmwError())
		return
	}
	defer C.free(bytes)
	m.raw = C.GoBytes(bytes, C.int(size))
}

// message makes a message of bytes that are known to decode: rclgo would send a default one otherwise.
func (h *halfSupport) message(raw []byte) (*rawMessage, error) {
	if err := ros.CheckCDR(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", h.typ, err)
	}
	m := &rawMessage{raw: raw, support: h}
	p := h.PrepareMemory()
	defer h.ReleaseMemory(p)
	h.AsCStruct(p, m)
	return m, m.err
}

func rmwError() error {
	text := C.take_error()
	defer C.free(unsafe.Pointer(text))
	return fmt.Errorf("%s", C.GoString(text))
}
