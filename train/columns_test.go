package train

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/weights"
)

// The trainer's layouts are the exporter's, and what it takes for granted is what the
// exporter assumes: export.args names only other columns.
func TestColumnsAreThoseOfExport(t *testing.T) {
	raw := pytest.Run(t, nil, "-c", `import json; from ddvla import columns
print(json.dumps([columns.ASSUMED, {n: [columns.LAYOUTS[n], columns.state(n)] for n in columns.LAYOUTS}]))`)
	var assumed string
	var layouts map[string][2]json.RawMessage
	if err := json.Unmarshal(raw, &[]any{&assumed, &layouts}); err != nil {
		t.Fatal(err)
	}
	all := weights.Layouts()
	for name, columns := range layouts {
		i := slices.IndexFunc(all, func(l weights.Layout) bool { return l.Name == name })
		if i < 0 {
			t.Errorf("export has no layout %s", name)
			continue
		}
		for k, want := range []any{all[i].Action, all[i].Proprio} {
			got := reflect.New(reflect.TypeOf(want))
			if err := json.Unmarshal(columns[k], got.Interface()); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Elem().Interface(), want) {
				t.Errorf("%s: %+v, export has %+v", name, got.Elem(), want)
			}
		}
	}
	d := weights.Defaults()
	i := slices.IndexFunc(all, func(l weights.Layout) bool { return l.Name == assumed })
	if i < 0 || !reflect.DeepEqual(d.ActionDims, all[i].Action) || !reflect.DeepEqual(d.ProprioDims, all[i].Proprio) {
		t.Errorf("export does not assume %s", assumed)
	}
}
