package dev.sae4j;

/**
 * What a file holds is malformed, not supported, or not what was asked of it: another file would serve. A file that is missing, or
 * that the disk does not give, is a plain {@link SaeException}.
 */
public final class SaeFormatException extends SaeException {
  private static final long serialVersionUID = 1L;

  public SaeFormatException(String message) {
    super(message);
  }

  public SaeFormatException(String message, Throwable cause) {
    super(message, cause);
  }
}
