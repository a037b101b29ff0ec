package identity

import (
	"context"
	"fmt"
	"time"
)

// Mails name no practice: to be known to one of behavioral health is itself a secret, and a
// screen shows the first lines of a mail to whoever looks at it.
const (
	invitationSubject = "Your invitation"
	invitationText    = `You have been invited to open an account. Follow this link to accept:

%s

It works once, for %s. If you did not expect it, do nothing.
`
	recoverySubject = "Your new password"
	recoveryText    = `Somebody asked for a new password for your account. If that was you, follow this link:

%s

It works once, for %s. If it was not you, do nothing: your password stays as it is.
`
)

// notice is what an owner is told when how she signs in has changed (ASVS 2.2.3, 2.5.5).
type notice struct{ subject, text string }

var (
	passwordChanged = notice{"Your password was changed", "The password of your account was changed, and all other sessions have ended. If that was not you, ask for a new password at once, and tell whoever invited you.\n"}
	factorAdded     = notice{"A second factor was added", "A way to sign in was added to your account. If that was not you, remove it, change your password, and tell whoever invited you.\n"}
	codeUsed        = notice{"A recovery code was used", "Somebody signed in to your account with one of your recovery codes. If that was not you, change your password, make new codes, and tell whoever invited you.\n"}
	factorRemoved   = notice{"A second factor was removed", "A way to sign in was removed from your account. If that was not you, change your password, and tell whoever invited you.\n"}
)

// tell sends a notice in the background: a mail server that is down keeps nobody from what she does.
func (s *Service) tell(email string, n notice) {
	if s.cfg.Mail == nil {
		return
	}
	s.mails.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.cfg.Mail.Send(ctx, email, n.subject, n.text); err != nil {
			s.cfg.Log.Warn("a notice could not be sent", "error", err)
		}
	})
}

// lasting says a duration in words.
func lasting(d time.Duration) string {
	unit, n := "minute", int(d/time.Minute)
	if d >= 2*time.Hour {
		unit, n = "hour", int(d/time.Hour)
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
