package clinic

import "math/rand/v2"

func pick[T any](d *rand.Rand, from []T) T { return from[d.IntN(len(from))] }

var familyNames = []string{
	"Adeyemi", "Albright", "Andrade", "Arslan", "Bakker", "Barros", "Bianchi", "Blackwood", "Calloway", "Chaudhry",
	"Corrigan", "Dahl", "Delgado", "Dubois", "Eastman", "Ekström", "Farouk", "Ferrara", "Fontaine", "Gallagher",
	"Goswami", "Granger", "Hashimoto", "Hollis", "Huang", "Iversen", "Jankowski", "Kaplan", "Kimura", "Kowalczyk",
	"Laurent", "Lombardi", "Mbeki", "Mercer", "Moreau", "Nguyen", "Nyberg", "Obi", "Oduya", "Pacheco", "Petrov",
	"Quintero", "Rahman", "Ramos", "Rosenthal", "Salazar", "Sato", "Sinclair", "Szabo", "Takeda", "Underhill",
	"Vargas", "Vogel", "Wakefield", "Weiss", "Winslow", "Yamada", "Yilmaz", "Zamora", "Zielinski",
}

type givenName struct{ name, gender string }

var givenNames = []givenName{
	{"Aaliyah", "female"}, {"Abel", "male"}, {"Adele", "female"}, {"Amir", "male"}, {"Anouk", "female"}, {"Arturo", "male"},
	{"Beatriz", "female"}, {"Boris", "male"}, {"Camille", "female"}, {"Cedric", "male"}, {"Daria", "female"}, {"Dmitri", "male"},
	{"Esme", "female"}, {"Ezra", "male"}, {"Fatima", "female"}, {"Felix", "male"}, {"Greer", "female"}, {"Gustav", "male"},
	{"Hana", "female"}, {"Hugo", "male"}, {"Imani", "female"}, {"Ivan", "male"}, {"Jolene", "female"}, {"Jonas", "male"},
	{"Kiara", "female"}, {"Kenji", "male"}, {"Leila", "female"}, {"Lionel", "male"}, {"Marisol", "female"}, {"Mateo", "male"},
	{"Nadia", "female"}, {"Nikhil", "male"}, {"Odette", "female"}, {"Omar", "male"}, {"Priya", "female"}, {"Rafael", "male"},
	{"Sabine", "female"}, {"Stefan", "male"}, {"Thea", "female"}, {"Tobias", "male"}, {"Uma", "female"}, {"Viktor", "male"},
	{"Willa", "female"}, {"Xavier", "male"}, {"Yara", "female"}, {"Zane", "male"},
}

var streets = []string{
	"Alder Street", "Birch Lane", "Canal Road", "Dover Court", "Elm Terrace", "Foundry Row", "Grove Avenue",
	"Harvest Way", "Juniper Drive", "Larch Place", "Mill Street", "Orchard Road", "Quarry Lane", "Willow Bend",
}

// cities are made up, in an area whose ZIP codes belong to nobody.
var cities = []struct{ city, zip string }{
	{"Graymouth", "00010"}, {"Port Ansel", "00011"}, {"Tarn Hollow", "00012"}, {"Eastferry", "00013"},
}
