package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const segmentationName = "segmentation"

// segmentation compares the SQL of a page of 100 as the policy restricts it
// with the same SQL for the operator, whom it restricts in nothing: both by
// hand, one after the other, without the server, whose work would hide the
// difference.
func (st *stage) segmentation(ctx context.Context, r *Report) error {
	i := slices.IndexFunc(families, func(f family) bool { return f.name == wideFamily })
	for n, who := range []struct{ name, token, member string }{
		{st.who.name, st.spy.house.reader, st.member()},
		{"a therapist, by her treating relations", st.spy.house.writer, st.who.writer.User},
	} {
		paths, err := st.paths(ctx, families[i], who.member)
		if err != nil {
			return err
		}
		type pair struct{ restricted, free []asked }
		var pairs []pair
		for _, path := range paths {
			restricted, err := st.spy.watch(path, who.token)
			if err != nil {
				return fmt.Errorf("bench: %s: %w", path, err)
			}
			if len(pairs) < explained {
				if err := st.explain(ctx, segmentationName+" "+strconv.Itoa(n), path, restricted); err != nil {
					return err
				}
			}
			mine := ids(st.spy.client.body.Bytes())
			free, err := st.spy.watch(path, operatorToken)
			if err != nil {
				return fmt.Errorf("bench: %s: %w", path, err)
			}
			if len(restricted) == 1 && len(free) == 1 && len(mine) > 20 && slices.Equal(mine, ids(st.spy.client.body.Bytes())) {
				pairs = append(pairs, pair{restricted, free})
			}
		}
		if len(pairs) < leastRaw {
			st.say("%s: %s sees %d pages as the operator does: too few to compare", segmentationName, who.name, len(pairs))
			continue
		}
		var ratios []float64
		var times [2][]time.Duration
		for range max(st.Rounds, 5) {
			var took [2]time.Duration
			for k := range 400 {
				p := pairs[k/2%len(pairs)]
				side, q := k%2, p.restricted
				if k/2%2 == 1 {
					side = 1 - side // neither always goes second, into warm caches
				}
				if side == 1 {
					q = p.free
				}
				start := time.Now()
				left := 100
				if _, err := st.raw.splice(ctx, q[0], []byte{'['}, &left); err != nil {
					return fmt.Errorf("bench: %s: %w", segmentationName, err)
				}
				took[side] += time.Since(start)
			}
			ratios = append(ratios, float64(took[0])/float64(took[1])-1)
			times[0], times[1] = append(times[0], took[0]/200), append(times[1], took[1]/200)
		}
		s := Segmentation{Caller: strings.TrimSpace(who.name), Restricted: median(times[0]), Free: median(times[1]), Cost: median(ratios), Pages: len(pairs)}
		st.say("%s, page of 100: %v as %s, %v unrestricted: %+.1f %%", segmentationName, s.Restricted.Round(time.Microsecond), s.Caller, s.Free.Round(time.Microsecond), 100*s.Cost)
		r.Segmentation = append(r.Segmentation, s)
		if st.who.reader.User != "" {
			break // they are the same person
		}
	}
	return nil
}
