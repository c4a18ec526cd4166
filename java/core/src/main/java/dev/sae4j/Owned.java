package dev.sae4j;

import java.lang.ref.Cleaner;

/** The one owner of a native object: frees it on release, or, with a line in the log, once its Java object is unreachable. */
final class Owned implements Runnable {
  private static final Cleaner CLEANER = Cleaner.create();

  private final String what;
  private final Runnable free;
  private Cleaner.Cleanable cleanable;
  private volatile boolean released;

  private Owned(String what, Runnable free) {
    this.what = what;
    this.free = free;
  }

  /** {@code free} must not refer to {@code owner}, or it would never become unreachable. */
  static Owned by(Object owner, String what, Runnable free) {
    Owned owned = new Owned(what, free);
    owned.cleanable = CLEANER.register(owner, owned);
    return owned;
  }

  void release() {
    released = true;
    cleanable.clean();
  }

  @Override
  public void run() {
    if (!released) {
      System.getLogger("dev.sae4j")
          .log(System.Logger.Level.WARNING, what + " was never closed; its native memory is freed now");
    }
    free.run();
  }
}
