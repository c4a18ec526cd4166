package dev.sae4j;

/** A file, a device or the engine could not serve. The message is one line: what, expected and got. */
public class SaeException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  public SaeException(String message) {
    super(message);
  }

  public SaeException(String message, Throwable cause) {
    super(message, cause);
  }
}
