package lint

import "slices"

// Ids that other code names.
const (
	idManifest = "BG001"
	idServed   = "BG002"
	idIgnore   = "BG003"
)

// Rules in the order of their ids.
func Rules() []Rule {
	return slices.Concat(manifestRules, routeRules, roleRules, issuerRules, limitRules, gatewayRules, backendRules, liveRules)
}

func ruleByID(id string) *Rule {
	all := Rules()
	if i := slices.IndexFunc(all, func(r Rule) bool { return r.ID == id }); i >= 0 {
		return &all[i]
	}
	return nil
}

var manifestRules = []Rule{
	{ID: idManifest, Name: "invalid-manifest", Severity: Error, Summary: "A manifest is not valid, so that serve leaves it out or keeps the version before.",
		Remedy: "correct it: breakglass validate DIR says how", check: func(r *run) {
			for _, p := range r.Set.Problems {
				r.addProblem(p)
			}
		}},
	{ID: idServed, Name: "not-served", Severity: Error, Summary: "An object is valid and would not be served, or could never open.",
		Remedy: "correct it: what was reviewed is not what will be there on the day", check: func(r *run) {
			for _, p := range r.Served {
				r.addProblem(p)
			}
		}},
	{ID: idIgnore, Name: "bad-suppression", Severity: Warning, Summary: "A suppression has no reason, names no rule, or suppresses nothing (info).",
		Remedy: `write breakglass.dev/lint-ignore: "BG012 why this is right here", or remove it`, check: func(*run) {}},
}
