package server_test

import (
	"context"
	"testing"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

// frozen is a store that answers one interaction by the consents as they were at the first page.
type frozen struct {
	*postgres.Store
	then   *postgres.Store // where the consent is still in force
	leg    string
	stated bool // what is said of a consent is frozen, too
}

func (f *frozen) at(leg string, further bool) *postgres.Store {
	if f.leg == leg && further {
		return f.then
	}
	return f.Store
}

func (f *frozen) Search(ctx context.Context, r authz.Reach, q search.Query) (record.Page, error) {
	return f.at("search", q.After != nil).Search(ctx, r, q)
}

func (f *frozen) History(ctx context.Context, r authz.Reach, h record.History) (record.Page, error) {
	return f.at("history", h.After != nil).History(ctx, r, h)
}

func (f *frozen) VRead(ctx context.Context, r authz.Restriction, id fhir.ID, v fhir.VersionID) (record.Sealed, error) {
	return f.at("version", true).VRead(ctx, r, id, v)
}

func (f *frozen) Read(ctx context.Context, r authz.Restriction, id fhir.ID) (record.Sealed, error) {
	return f.at("read", true).Read(ctx, r, id)
}

func (f *frozen) ConsentScopes(ctx context.Context, g authz.Grant, ids []fhir.ID) ([]obligation.Scope, error) {
	return f.at(f.leg, f.stated).ConsentScopes(ctx, g, ids)
}

// Consents that are kept from the first page, or from an earlier request, show;
// the records do not, as long as the gate asks by which consent in force they are disclosed.
func TestTwinConsentRevokedFindsAFrozenConsent(t *testing.T) {
	before := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	var f *frozen
	c := underConsent(t, "hie", "Colin", func(core *server.Core) api.Store {
		if f != nil { // the twin
			return core.Store
		}
		f = &frozen{Store: core.Store, then: before.core.Store}
		core.Gate = core.Gate.Explaining(f)
		return f
	}, before)
	c.revoke(t)
	at := "/" + c.any(t, "Condition").ref.String()
	c.turned = append(c.turned, get(at), get(at+"/_history/1"))
	for _, leg := range []string{"search", "history", "version", "read"} {
		for _, f.stated = range []bool{false, true} {
			f.leg = leg
			differ, shown := 0, 0
			for _, q := range c.turned {
				same, full, _ := c.compare(q)
				if !same {
					differ++
				}
				if len(c.shown(full)) > 0 {
					shown++
				}
			}
			if differ == 0 || (shown > 0) != f.stated {
				t.Errorf("%s, stated %v: of %d requests %d differ, %d show a record", leg, f.stated, len(c.turned), differ, shown)
			}
			t.Logf("%s, stated %v: of %d requests %d differ, %d show a record", leg, f.stated, len(c.turned), differ, shown)
		}
	}
}
