package conformance;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Questionnaire;
import org.hl7.fhir.utilities.npm.NpmPackage;

/** The HL7 validator without a network: R4 from its own jar, US Core from its package. */
final class Validator {
  private static final Set<String> DEFINITIONS = Set.of("StructureDefinition", "ValueSet", "CodeSystem");
  private final FhirValidator validator;

  /** usCore is the package's file, or null. Answers are checked against questionnaires, codes against code systems. */
  Validator(Path usCore, List<byte[]> questionnaires, List<byte[]> codeSystems) throws IOException {
    FhirContext r4 = FhirContext.forR4Cached();
    PrePopulatedValidationSupport loaded = new PrePopulatedValidationSupport(r4);
    if (usCore != null) {
      try (InputStream in = Files.newInputStream(usCore)) {
        NpmPackage all = NpmPackage.fromPackage(in);
        for (String name : all.list("package")) {
          if (DEFINITIONS.contains(name.substring(0, Math.max(0, name.indexOf('-'))))) {
            loaded.addResource(r4.newJsonParser().parseResource(all.load("package", name)));
          }
        }
      }
    }
    for (byte[] json : codeSystems) {
      loaded.addResource(r4.newJsonParser().parseResource(new String(json, StandardCharsets.UTF_8)));
    }
    Map<String, Questionnaire> asked = new HashMap<>();
    for (byte[] json : questionnaires) {
      Questionnaire q = r4.newJsonParser().parseResource(Questionnaire.class, new String(json, StandardCharsets.UTF_8));
      asked.put(q.getUrl(), q);
    }
    // Code systems that nobody can ship (SNOMED CT, LOINC ...) cannot be checked here: that is said as a warning.
    UnknownCodeSystemWarningValidationSupport unknown = new UnknownCodeSystemWarningValidationSupport(r4);
    unknown.setNonExistentCodeSystemSeverity(IValidationSupport.IssueSeverity.WARNING);
    FhirInstanceValidator rules =
        new FhirInstanceValidator(
            new ValidationSupportChain(
                loaded,
                new PrePopulatedValidationSupport(r4) {
                  @Override
                  public <T extends IBaseResource> T fetchResource(Class<T> type, String url) {
                    Questionnaire q = asked.get(url);
                    return type != null && type.isInstance(q) ? type.cast(q) : super.fetchResource(type, url);
                  }
                },
                new DefaultProfileValidationSupport(r4),
                new CommonCodeSystemsTerminologyService(r4),
                new InMemoryTerminologyServerValidationSupport(r4),
                new SnapshotGeneratingValidationSupport(r4),
                unknown));
    rules.setAnyExtensionsAllowed(true);
    rules.setErrorForUnknownProfiles(true);
    validator = r4.newValidator().registerValidatorModule(rules);
  }

  List<SingleValidationMessage> validate(byte[] json) {
    return validator.validateWithResult(new String(json, StandardCharsets.UTF_8)).getMessages();
  }
}
