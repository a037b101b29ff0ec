package pdp
import "testing"
func TestX(t *testing.T){ p,err:=New(Embedded()); if err!=nil{t.Fatal(err)}; t.Log(p.Version()) }
func BenchmarkNew(b *testing.B){ for b.Loop(){ New(Embedded()) } }
