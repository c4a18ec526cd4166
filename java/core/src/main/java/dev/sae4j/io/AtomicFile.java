package dev.sae4j.io;

import dev.sae4j.SaeException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileSystemLoopException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFileAttributes;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.HashSet;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Pattern;

/**
 * A file that appears whole or not at all: written under a temporary name in its target's folder, renamed on commit. A file that
 * is replaced hands on its mode, and its owner and group where that is permitted; a symbolic link stays, and what it points at is
 * replaced. What is no plain file, such as a device or a FIFO, is never replaced: on commit the bytes are written to it.
 *
 * <p>A process that is killed leaves its temporary, which the next one that writes to the folder removes. A lock tells that nobody
 * writes it any more.
 *
 * <p>For sae4j's own modules: it may change without notice. Belongs to one thread.
 */
public final class AtomicFile implements AutoCloseable {
  private static final String RUN = UUID.randomUUID().toString(); // this JVM's temporaries are never taken for left ones
  private static final Pattern NAME = Pattern.compile("\\.sae4j-([0-9a-f-]{36})-[0-9a-f]{16}\\.tmp");
  private static final Set<Path> SWEPT = ConcurrentHashMap.newKeySet();
  private static final int MAX_LINKS = 40;
  private static final int COPY_BYTES = 1 << 16;
  private static final Set<PosixFilePermission> OF_THE_GROUP =
      Set.of(PosixFilePermission.GROUP_READ, PosixFilePermission.GROUP_WRITE, PosixFilePermission.GROUP_EXECUTE);

  private final Path target;
  private Path folder; // of temporaries
  private Path place; // null where the bytes go to a device
  private Path temporary; // likewise
  private PosixFileAttributes old; // null where nothing is replaced
  private FileChannel device; // null where a file is renamed
  private FileChannel channel;

  /**
   * Begins a file. A FIFO waits here for its reader.
   *
   * @param target what failures are reported about
   * @throws SaeException if it can't be written
   */
  public AtomicFile(Path target) {
    this.target = target;
    if (Files.isDirectory(target)) {
      throw new SaeException(target + ": is a folder, expected a file to write");
    }
    try {
      if (Files.exists(target) && !Files.isRegularFile(target)) {
        openDevice();
      } else {
        openTemporary();
      }
    } catch (IOException e) {
      throw failed(e);
    }
  }

  private void openDevice() throws IOException {
    device = FileChannel.open(target, StandardOpenOption.WRITE);
    try {
      folder = Path.of(System.getProperty("java.io.tmpdir"));
      channel = unnamed();
    } catch (IOException | RuntimeException e) {
      device.close();
      throw e;
    }
  }

  private void openTemporary() throws IOException {
    place = (Files.exists(target) ? target.toRealPath() : followed(target)).toAbsolutePath();
    folder = place.getParent();
    sweep(folder);
    PosixFileAttributeView view = Files.getFileAttributeView(place, PosixFileAttributeView.class);
    old = view == null || Files.notExists(place) ? null : view.readAttributes();
    FileAttribute<?>[] mode = old == null ? new FileAttribute<?>[0] : ownersOnly();
    do {
      temporary = unusedName();
      channel = open(temporary, mode);
    } while (!isHeld());
  }

  /** What a link points at, or a link to a link, where that is not there. */
  private static Path followed(Path path) throws IOException {
    for (int links = 0; Files.isSymbolicLink(path); links++) {
      if (links == MAX_LINKS) {
        throw new FileSystemLoopException(path.toString());
      }
      path = path.resolveSibling(Files.readSymbolicLink(path));
    }
    return path;
  }

  private Path unusedName() {
    return folder.resolve(".sae4j-%s-%016x.tmp".formatted(RUN, ThreadLocalRandom.current().nextLong()));
  }

  private static FileChannel open(Path path, FileAttribute<?>[] mode, StandardOpenOption... more) throws IOException {
    Set<StandardOpenOption> how =
        new HashSet<>(Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.READ, StandardOpenOption.WRITE));
    how.addAll(Set.of(more));
    return FileChannel.open(path, how, mode);
  }

  private FileAttribute<?>[] ownersOnly() {
    boolean isPosix = folder.getFileSystem().supportedFileAttributeViews().contains("posix");
    return isPosix
        ? new FileAttribute<?>[] {PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"))}
        : new FileAttribute<?>[0];
  }

  private FileChannel unnamed() throws IOException {
    return open(unusedName(), ownersOnly(), StandardOpenOption.DELETE_ON_CLOSE); // POSIX: deleted at once
  }

  /** Takes the lock. False if another process did first, or even removed the file, which it took for a left one. */
  private boolean isHeld() throws IOException {
    FileLock lock;
    try {
      lock = channel.tryLock();
    } catch (IOException e) {
      return true; // no locks on this file system, so nobody removes anything
    }
    if (lock != null && Files.exists(temporary)) {
      return true;
    }
    channel.close();
    Files.deleteIfExists(temporary);
    return false;
  }

  /** Removes what killed processes left, once for each folder. */
  private static void sweep(Path folder) {
    if (!SWEPT.add(folder)) {
      return;
    }
    try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, file -> isForeign(file.getFileName().toString()))) {
      files.forEach(AtomicFile::removeUnlessHeld);
    } catch (IOException | DirectoryIteratorException e) {
      // A folder that can't be listed can be written to all the same.
    }
  }

  private static boolean isForeign(String name) {
    var temporary = NAME.matcher(name);
    return temporary.matches() && !temporary.group(1).equals(RUN);
  }

  private static void removeUnlessHeld(Path file) {
    if (!Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)) {
      return;
    }
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);
        FileLock lock = channel.tryLock()) {
      if (lock != null) {
        Files.deleteIfExists(file); // while the lock is held: see isHeld
      }
    } catch (IOException | OverlappingFileLockException e) {
      // Another user's, or on a file system without locks.
    }
  }

  FileChannel channel() {
    return channel;
  }

  /** A file for what has to wait, beside the temporary; it has no name, and is gone once closed. */
  FileChannel spool() {
    try {
      return unnamed();
    } catch (IOException e) {
      throw failed(e);
    }
  }

  /**
   * Appends bytes, from the buffer's position to its limit.
   *
   * @throws SaeException if that fails, e.g. on a full disk
   */
  public void write(ByteBuffer bytes) {
    write(channel, bytes);
  }

  /** To this file or to a spool of it. */
  void write(FileChannel to, ByteBuffer bytes) {
    try {
      writeAll(to, bytes);
    } catch (IOException e) {
      throw failed(e);
    }
  }

  private static void writeAll(FileChannel to, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      to.write(bytes);
    }
  }

  SaeException failed(IOException e) {
    return Failures.of(target + ": cannot be written", e);
  }

  /**
   * Puts the file in its place, over an old one.
   *
   * @throws SaeException if that fails
   */
  public void commit() {
    try {
      if (device != null) {
        copyToDevice();
      } else {
        inherit();
        Files.move(temporary, place, StandardCopyOption.ATOMIC_MOVE);
      }
      channel.close(); // with its lock, so not before
    } catch (IOException e) {
      throw failed(e);
    }
  }

  private void copyToDevice() throws IOException {
    ByteBuffer bytes = ByteBuffer.allocateDirect(COPY_BYTES);
    channel.position(0);
    while (channel.read(bytes.clear()) >= 0) {
      writeAll(device, bytes.flip());
    }
    device.close();
  }

  /** Owner, group and mode of the old file; without its group, nothing that this group was permitted. */
  private void inherit() {
    if (old == null) {
      return;
    }
    PosixFileAttributeView view = Files.getFileAttributeView(temporary, PosixFileAttributeView.class);
    Set<PosixFilePermission> mode = new HashSet<>(old.permissions());
    if (!isPermitted(() -> view.setGroup(old.group()))) {
      mode.removeAll(OF_THE_GROUP);
    }
    isPermitted(() -> view.setOwner(old.owner()));
    isPermitted(() -> view.setPermissions(mode));
  }

  @FunctionalInterface
  private interface Change {
    void make() throws IOException;
  }

  private static boolean isPermitted(Change change) {
    try {
      change.make();
      return true;
    } catch (IOException e) {
      return false;
    }
  }

  /** Discards what was not committed. Idempotent. */
  @Override
  public void close() {
    try (FileChannel first = channel;
        FileChannel second = device) {
      if (temporary != null) {
        Files.deleteIfExists(temporary);
      }
    } catch (IOException e) {
      throw failed(e);
    }
  }
}
