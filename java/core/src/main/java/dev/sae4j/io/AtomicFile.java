package dev.sae4j.io;

import dev.sae4j.SaeException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.ThreadLocalRandom;

/** A file that appears whole or not at all: written under a temporary name beside its target, renamed on commit. */
final class AtomicFile implements AutoCloseable {
  private final Path target;
  private final Path temporary;
  private final FileChannel channel;

  /**
   * @param target what failures are reported about
   * @throws SaeException if the folder can't be written to
   */
  AtomicFile(Path target) {
    this.target = target;
    if (Files.isDirectory(target) || target.getFileName() == null) {
      throw new SaeException(target + ": is a folder, expected a file to write");
    }
    String name = ".%s.%016x.tmp".formatted(target.getFileName(), ThreadLocalRandom.current().nextLong());
    temporary = target.resolveSibling(name);
    try {
      channel = FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.READ, StandardOpenOption.WRITE);
    } catch (IOException e) {
      throw failed(e);
    }
  }

  FileChannel channel() {
    return channel;
  }

  void write(ByteBuffer bytes) {
    try {
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
    } catch (IOException e) {
      throw failed(e);
    }
  }

  SaeException failed(IOException e) {
    return Failures.of(target + ": cannot be written", e);
  }

  /** Puts the file in its place, over an old one. */
  void commit() {
    try {
      channel.close();
      Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
    } catch (IOException e) {
      throw failed(e);
    }
  }

  /** Discards what was not committed. Idempotent. */
  @Override
  public void close() {
    try {
      channel.close();
      Files.deleteIfExists(temporary);
    } catch (IOException e) {
      throw failed(e);
    }
  }
}
