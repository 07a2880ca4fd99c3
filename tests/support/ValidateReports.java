import com.pixelmed.validate.DicomSRValidator;

/** Holds many structured reports against their templates in one start of Java, which takes most of the time. */
class ValidateReports {
    public static void main(String[] paths) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        for (String path : paths) {
            System.out.println("File: " + path);
            System.out.println(validator.validate(path));
        }
    }
}
