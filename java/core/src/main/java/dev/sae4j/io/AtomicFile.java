package dev.sae4j.io;

import dev.sae4j.SaeException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
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
 * A file that appears whole or not at all: written under a temporary name in its target's folder, renamed on
 * commit. A file that is replaced hands on its mode, and its owner and group where that is permitted; a symbolic
 * link stays, and what it points at is replaced. What can't be replaced, such as a device, a FIFO, or a file that
 * is mounted or lies in a folder that is not writable, is written to on commit. What is there has to be writable,
 * whatever its folder permits.
 *
 * <p>A process that is killed leaves its temporary, which the next one that writes to the folder removes. A lock
 * tells that nobody writes it any more, and may not reach beyond a machine: those of others are left alone.
 *
 * <p>For sae4j's own modules: it may change without notice. Belongs to one thread.
 */
public final class AtomicFile implements AutoCloseable {
  private static final String RUN = UUID.randomUUID().toString(); // no temporary of this JVM is taken for a left one
  private static final String MACHINE = machine();
  private static final Pattern NAME =
      Pattern.compile("\\.sae4j-" + Pattern.quote(MACHINE) + "-([0-9a-f-]{36})-[0-9a-f]{16}\\.tmp");
  private static final Set<Path> SWEPT = ConcurrentHashMap.newKeySet();
  private static final int COPY_BYTES = 1 << 16;
  private static final Set<PosixFilePermission> OF_THE_GROUP =
      Set.of(PosixFilePermission.GROUP_READ, PosixFilePermission.GROUP_WRITE, PosixFilePermission.GROUP_EXECUTE);

  private final Path target;
  private Path folder; // of temporaries
  private Path place; // null where it can't be renamed to
  private Path temporary; // likewise
  private FileChannel existing; // what is at the target; null where nothing is
  private PosixFileAttributes old; // likewise
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
      existing = existing(target);
      open();
    } catch (IOException e) {
      close();
      throw failed(e);
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /** Opened, so that the kernel says whether it may be written; null where nothing is. */
  private static FileChannel existing(Path target) throws IOException {
    try {
      return FileChannel.open(target, StandardOpenOption.WRITE);
    } catch (NoSuchFileException e) {
      return null;
    }
  }

  private void open() throws IOException {
    Path file = existing == null ? followed(target) : Files.isRegularFile(target) ? target.toRealPath() : null;
    if (file != null && (existing == null || Files.isWritable(file.getParent()))) {
      openTemporary(file.toAbsolutePath());
    } else {
      folder = Path.of(System.getProperty("java.io.tmpdir"));
      channel = unnamed();
    }
  }

  private void openTemporary(Path file) throws IOException {
    place = file;
    folder = place.getParent();
    sweep(folder);
    PosixFileAttributeView view = Files.getFileAttributeView(place, PosixFileAttributeView.class);
    old = view == null || existing == null ? null : view.readAttributes();
    FileAttribute<?>[] mode = old == null ? new FileAttribute<?>[0] : ownersOnly();
    do {
      temporary = unusedName();
      channel = open(temporary, mode);
    } while (!isHeld());
  }

  /** What a link points at, or a link to a link, where that is not there. The kernel has followed them: they end. */
  private static Path followed(Path path) throws IOException {
    Path end = path;
    while (Files.isSymbolicLink(end)) {
      end = end.resolveSibling(Files.readSymbolicLink(end));
    }
    return end;
  }

  private Path unusedName() {
    return folder.resolve(".sae4j-%s-%s-%016x.tmp".formatted(MACHINE, RUN, ThreadLocalRandom.current().nextLong()));
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
    try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, AtomicFile::isForeign)) {
      files.forEach(AtomicFile::removeUnlessHeld);
    } catch (IOException | DirectoryIteratorException e) {
      // A folder that can't be listed can be written to all the same.
    }
  }

  /** Whether it is a temporary of another process on this machine. */
  private static boolean isForeign(Path file) {
    var temporary = NAME.matcher(file.getFileName().toString());
    return temporary.matches() && !temporary.group(1).equals(RUN);
  }

  /** Another one each time that it starts; this process's own where the kernel gives none. */
  private static String machine() {
    try {
      return Files.readString(Path.of("/proc/sys/kernel/random/boot_id")).strip();
    } catch (IOException e) {
      return RUN;
    }
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

  /** Of what is written before the commit: it may lie on another disk than the target. */
  SaeException failed(IOException e) {
    String way = place == null && folder != null ? ", by way of " + folder : "";
    return Failures.of(target + ": cannot be written" + way, e);
  }

  /**
   * Puts the file in its place, over an old one.
   *
   * @throws SaeException if that fails
   */
  public void commit() {
    try {
      if (place == null || !isRenamed()) {
        copyToExisting();
      }
      channel.close(); // with its lock, so not before
    } catch (IOException e) {
      throw Failures.of(target + ": cannot be written", e);
    }
  }

  /** False where the old file refuses, as one does that is mounted, or another user's in a sticky folder. */
  private boolean isRenamed() throws IOException {
    inherit();
    try {
      Files.move(temporary, place, StandardCopyOption.ATOMIC_MOVE);
      return true;
    } catch (FileSystemException e) {
      if (existing == null) {
        throw e;
      }
      return false;
    }
  }

  private void copyToExisting() throws IOException {
    if (Files.isRegularFile(target)) {
      existing.truncate(0);
    }
    ByteBuffer bytes = ByteBuffer.allocateDirect(COPY_BYTES);
    channel.position(0);
    while (channel.read(bytes.clear()) >= 0) {
      writeAll(existing, bytes.flip());
    }
    existing.close();
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
        FileChannel second = existing) {
      if (temporary != null) {
        Files.deleteIfExists(temporary);
      }
    } catch (IOException e) {
      throw failed(e);
    }
  }
}
