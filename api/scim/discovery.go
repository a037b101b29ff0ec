package scim

import "net/http"

// config is the ServiceProviderConfig (RFC 7643, 5).
func (s *server) config(*http.Request, Directory) (int, any, error) {
	no := map[string]any{"supported": false}
	return http.StatusOK, map[string]any{
		"schemas": []string{schemaConfig}, "patch": map[string]any{"supported": true},
		"bulk":           map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter":         map[string]any{"supported": true, "maxResults": maxPage},
		"changePassword": no, "sort": no, "etag": no,
		"authenticationSchemes": []any{map[string]any{"type": "oauthbearertoken", "name": "Bearer token", "description": "The token that cloister account scim-token makes", "primary": true}},
		"meta":                  map[string]any{"resourceType": "ServiceProviderConfig", "location": s.Base + "/ServiceProviderConfig"},
	}, nil
}

func (s *server) types(*http.Request, Directory) (int, any, error) {
	kind := func(name, endpoint, schema string) map[string]any {
		return map[string]any{
			"schemas": []string{schemaType}, "id": name, "name": name, "endpoint": endpoint, "schema": schema,
			"meta": map[string]any{"resourceType": "ResourceType", "location": s.Base + "/ResourceTypes/" + name},
		}
	}
	user := kind("User", "/Users", schemaUser)
	user["schemaExtensions"] = []any{map[string]any{"schema": schemaMember, "required": false}}
	return http.StatusOK, list([]any{user, kind("Group", "/Groups", schemaGroup)}, 2, 0), nil
}

// attribute is one of a schema (RFC 7643, 7).
func attribute(name, kind, about, mutability, uniqueness string, required, multi bool, sub ...any) map[string]any {
	a := map[string]any{
		"name": name, "type": kind, "description": about, "multiValued": multi, "required": required, "caseExact": false,
		"mutability": mutability, "returned": "default", "uniqueness": uniqueness,
	}
	if len(sub) > 0 {
		a["subAttributes"] = sub
	}
	return a
}

// described are the schemas: what is kept of a resource, and nothing that a directory would send in vain.
func (s *server) described() []map[string]any {
	const (
		write, read, fixed = "readWrite", "readOnly", "immutable"
		none, unique       = "none", "server"
	)
	schema := func(id, name, about string, attributes ...any) map[string]any {
		return map[string]any{
			"schemas": []string{schemaSchema}, "id": id, "name": name, "description": about, "attributes": attributes,
			"meta": map[string]any{"resourceType": "Schema", "location": s.Base + "/Schemas/" + id},
		}
	}
	return []map[string]any{
		schema(schemaUser, "User", "A member of staff",
			attribute("userName", "string", "Her e-mail address; it names her account", fixed, unique, true, false),
			attribute("name", "complex", "Her name", write, none, false, false,
				attribute("formatted", "string", "In full", write, none, false, false),
				attribute("givenName", "string", "What is kept is the name in full", "writeOnly", none, false, false),
				attribute("familyName", "string", "What is kept is the name in full", "writeOnly", none, false, false)),
			attribute("displayName", "string", "Her name as it is shown; it goes before name", write, none, false, false),
			attribute("active", "boolean", "Whether she is a member of the practice", write, none, false, false),
			attribute("emails", "complex", "The userName", read, none, false, true, attribute("value", "string", "The address", read, none, false, false)),
			attribute("groups", "complex", "The groups that she is in", read, none, false, true,
				attribute("value", "string", "The id of the group", read, none, false, false), attribute("display", "string", "Its name", read, none, false, false))),
		schema(schemaGroup, "Group", "A group of users; the configuration of the server says which roles it gives",
			attribute("displayName", "string", "Its name", write, unique, true, false),
			attribute("members", "complex", "Its users", write, none, false, true, attribute("value", "string", "The id of a user", fixed, none, true, false))),
		schema(schemaMember, "Member", "What a user is in the practice",
			attribute("fhirUser", "string", "Her Practitioner, as Practitioner/ID", write, none, false, false),
			attribute("organizations", "string", "The logical ids of the Organizations in which she works", write, none, false, true)),
	}
}

func (s *server) schemas(*http.Request, Directory) (int, any, error) {
	all := s.described()
	out := make([]any, len(all))
	for i, x := range all {
		out[i] = x
	}
	return http.StatusOK, list(out, len(out), 0), nil
}

func (s *server) schema(r *http.Request, _ Directory) (int, any, error) {
	for _, x := range s.described() {
		if x["id"] == r.PathValue("id") {
			return http.StatusOK, x, nil
		}
	}
	return 0, nil, errUnknown
}
