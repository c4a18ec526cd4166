package dev.sae4j;

import java.nio.ByteBuffer;
import org.bytedeco.javacpp.Pointer;

/**
 * Where an array of a native object lies, and whose it is. JavaCPP's copy of a pointer, {@code new FloatPointer(array)} or
 * {@code getPointer}, refers to the pointer it copies where that has a deallocator, and so keeps the owner reachable, for
 * any number of copies of copies. A buffer made by {@code asBuffer} refers to none.
 */
final class OwnedArray extends Pointer {
  /** What gives each array a deallocator, that frees nothing and is in no list of JavaCPP's. */
  private static final Pointer ROOT = new Pointer(ByteBuffer.allocateDirect(1));

  @SuppressWarnings("unused") // but for being referred to
  private final Object owner;

  /** @param length in elements of the type that copies will have */
  OwnedArray(Object owner, Pointer start, long length) {
    super(ROOT);
    this.owner = owner;
    address = start.address();
    position = 0;
    limit = length;
    capacity = length;
  }

  // A copy that is closed or deallocated asks this to do the same: the memory is the owner's.

  @Override
  public void deallocate(boolean deallocate) {}

  @Override
  @SuppressWarnings("unchecked")
  public <P extends Pointer> P retainReference() {
    return (P) this;
  }

  @Override
  public boolean releaseReference() {
    return false;
  }
}
