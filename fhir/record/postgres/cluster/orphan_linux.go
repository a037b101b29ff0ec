package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// workingIn lists the PostgreSQL processes whose working directory is data:
// PostgreSQL works in its data directory, and the kernel vouches for it.
func workingIn(data string) ([]int, error) {
	here, err := os.Stat(data)
	if err != nil {
		return nil, nil //nolint:nilerr // no directory, nobody in it
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	var pids []int
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := "/proc/" + p.Name()
		// Both links can be read by root and by the owner of the process alone; what is
		// left out is another user's process, which cannot work in our directory.
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
			continue
		}
		if there, err := os.Stat(filepath.Join(dir, "cwd")); err == nil && os.SameFile(here, there) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
