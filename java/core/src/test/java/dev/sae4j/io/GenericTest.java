package dev.sae4j.io;

import static dev.sae4j.io.Fixtures.failed;
import static dev.sae4j.io.Fixtures.floats;
import static dev.sae4j.io.Fixtures.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sae4j.SaeWeights;
import dev.sae4j.SaeWeights.Normalization;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Any file, by what the user says of it. That numbers are right is FormatsTest's. */
class GenericTest {
  @TempDir Path folder;

  /** @param maps e.g. "W_enc=a.T W_dec=b" */
  private static Generic generic(String maps, String activation) {
    Map<String, String> tensors = new LinkedHashMap<>();
    for (String map : maps.split(" ")) {
      tensors.put(map.substring(0, map.indexOf('=')), map.substring(map.indexOf('=') + 1));
    }
    return new Generic(tensors, activation, false);
  }

  private static SaeWeights read(Path path, String maps) {
    return SaeReader.read(path, new SaeReader.Options(generic(maps, "relu"), null));
  }

  /** A safetensors file of zeros, e.g. of "a=3x2 b=3". */
  private Path file(String tensors) throws IOException {
    StringBuilder header = new StringBuilder();
    int at = 0;
    for (String tensor : tensors.split(" ")) {
      String shape = tensor.substring(tensor.indexOf('=') + 1).replace('x', ',');
      int end = at + 4 * Arrays.stream(shape.split(",")).mapToInt(Integer::parseInt).reduce(1, (a, b) -> a * b);
      header.append(header.isEmpty() ? "{" : ",").append(
          "\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}"
              .formatted(tensor.substring(0, tensor.indexOf('=')), shape, at, end));
      at = end;
    }
    return Files.write(folder.resolve("x.safetensors"), Fixtures.safetensors(header + "}", new byte[at]));
  }

  // ---- what is said must agree

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "W_enc=e                              | relu        |    | W_enc and W_dec must be mapped",
        "W_enc=e W_dec=d W_foo=x              | relu        |    | b_dec, b_enc, b_gate, b_mag, log_threshold, r_mag, threshold, got \"W_foo\"",
        "W_enc=e W_dec=d                      | tanh        |    | must be relu, jumprelu, gated, topk, topk-signed, topk-abs, got \"tanh\"",
        "W_enc=e W_dec=d                      |             |    | topk-abs, got none",
        "W_enc=e W_dec=d                      | relu        | 4  | the activation relu has no use for the option k (--k), got 4",
        "W_enc=e W_dec=d                      | topk        |    | the activation topk needs the option k",
        "W_enc=e W_dec=d threshold=t          | topk-signed | 4  | the activation topk-signed has no use for threshold",
        "W_enc=e W_dec=d log_threshold=t      | relu        |    | the activation relu has no use for log_threshold",
        "W_enc=e W_dec=d                      | jumprelu    |    | either threshold or log_threshold",
        "W_enc=e W_dec=d threshold=t log_threshold=t | jumprelu |  | either threshold or log_threshold",
        "W_enc=e W_dec=d b_gate=g             | relu        |    | the activation relu has no use for b_gate",
        "W_enc=e W_dec=d b_gate=g b_mag=m     | gated       |    | the activation gated needs b_gate, b_mag, r_mag",
        "W_enc=e W_dec=d b_enc=b              | gated       |    | the activation gated has no use for b_enc",
      })
  void refusesWhatMakesNoSense(String maps, String activation, Long k, String message) {
    String got =
        assertThrows(IllegalArgumentException.class, () -> new SaeReader.Options(generic(maps, activation), k)).getMessage();
    assertTrue(got.contains(message), got);
  }

  @Test
  void refusesOptionsThatItHasNoUseFor() {
    Generic relu = generic("W_enc=e W_dec=d W_skip=s", "relu");
    assertThrows(IllegalArgumentException.class, () -> new Generic(relu.tensors(), "relu", true)); // no b_dec
    assertThrows(IllegalArgumentException.class, () -> new SaeReader.Options("saelens", null, null, null, relu));
    assertThrows(IllegalArgumentException.class, () -> new SaeReader.Options(null, null, null, null, relu));
    assertThrows(IllegalArgumentException.class, () -> new SaeReader.Options("generic", 2.0, null, null, relu));
    assertThrows(IllegalArgumentException.class, () -> new Generic(relu.tensors(), "relu", false, Normalization.LAYER));
    Generic layer = new Generic(Map.of("W_enc", "e", "W_dec", "d"), "relu", false, Normalization.LAYER);
    assertThrows(IllegalArgumentException.class, () -> new SaeReader.Options("generic", 2.0, null, null, layer));
  }

  // ---- shapes

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "e=5x3 d=5x3 b=5 | W_enc=e W_dec=d b_enc=b   | W_enc is \"e\" of shape [5, 3], expected [d_in, d_sae = 5]; what would fit is --map W_enc=e.T",
        "e=5x3 d=5x3     | W_enc=e W_dec=d           | expected [d_sae = 3, d_out]; what would fit is --map W_enc=e.T",
        "e=3x5 d=3x5 c=3 | W_enc=e W_dec=d b_dec=c   | what would fit is --map W_dec=d.T",
        "e=5x3 d=3x5 b=5 | W_enc=e W_dec=d b_enc=b   | what would fit is --map W_enc=e.T --map W_dec=d.T",
        "e=3x5 d=5x3 b=5 | W_enc=e.T W_dec=d.T b_enc=b | what would fit is --map W_enc=e --map W_dec=d",
        "e=3x5 d=5x3 b=4 | W_enc=e W_dec=d b_enc=b   | x.safetensors: W_enc is \"e\" of shape [3, 5], expected [d_in, d_sae = 4]",
        "e=3x5 d=5x3 c=2 | W_enc=e W_dec=d b_dec=c   | W_dec is \"d\" of shape [5, 3], expected [d_sae = 5, d_out = 2]",
        "e=3x5 d=5x4 s=3x4 | W_enc=e W_dec=d W_skip=s | expected [d_out = 4, d_in = 3]; what would fit is --map W_skip=s.T",
        "e=3x5 d=5x3 b=5x2 | W_enc=e W_dec=d b_enc=b | \"b\": shape is [5, 2], expected one dimension of b_enc",
        "e=3x5 d=5       | W_enc=e W_dec=d           | \"d\": shape is [5], expected two dimensions of W_dec",
        "e=3x5 d=5x3 b=5 | W_enc=e W_dec=d b_enc=b.T | b_enc is a vector, and has no transpose",
      })
  void namesTheTransposeThatWouldFit(String tensors, String maps, String message) throws IOException {
    Path file = file(tensors);
    refused(() -> read(file, maps), message);
  }

  @Test
  void transcodersSubtractNothing() throws IOException {
    Path file = file("e=3x5 d=5x4 c=4");
    Map<String, String> tensors = Map.of("W_enc", "e", "W_dec", "d", "b_dec", "c");
    SaeReader.read(file, new SaeReader.Options(new Generic(tensors, "relu", false), null)).close();
    refused(() -> SaeReader.read(file, new SaeReader.Options(new Generic(tensors, "relu", true), null)), "d_in = 4");
    refused(() -> SaeReader.read(file, new SaeReader.Options("generic", 2.0, null, null, new Generic(tensors, "relu", false))), "d_in = 4");
  }

  // ---- names

  @Test
  void namesTheNearestTensorFirst() throws IOException {
    Path file = file("decoder_weights=5x3 model.encoder=3x5 encoder_weights=3x5");
    refused(() -> read(file, "W_enc=encoder_weight W_dec=decoder_weights"), "no tensor \"encoder_weight\", which W_enc is mapped to; it has \"encoder_weights\", ");
    refused(() -> read(file, "W_enc=encoder W_dec=decoder_weights"), "it has \"model.encoder\", ");
  }

  @Test
  void aTensorMayEndInTheMarkOfATranspose() throws IOException {
    read(file("e.T=3x5 d=5x3 b=5"), "W_enc=e.T W_dec=d b_enc=b").close();
    read(file("e.T=5x3 d=5x3 b=5"), "W_enc=e.T.T W_dec=d b_enc=b").close();
  }

  @Test
  void saysWhatIsNotUsed() throws IOException {
    try (SaeWeights weights = read(file("e=5x3 d=3x5 theta=3"), "W_enc=e W_dec=d")) {
      assertEquals(3, weights.dSae());
      assertTrue(weights.info().warnings().get(0).startsWith("d_sae = 3 is below d_in = 5"), weights.info().warnings().toString());
      assertEquals("tensors that are not mapped, and not used: \"theta\"", weights.info().warnings().get(1));
      assertTrue(weights.info().folded().get(0).contains("W_enc is \"e\", W_dec is \"d\", and the activation is relu"));
    }
  }

  /** Whether a JumpReLU ends in a ReLU differs between programs, and shows where a threshold is negative. */
  @Test
  void warnsOfNegativeThresholds() throws IOException {
    Path path = file("theta=5 e=3x5 d=5x3");
    byte[] bytes = Files.readAllBytes(path);
    String maps = "W_enc=e W_dec=d threshold=theta";
    SaeReader.Options options = new SaeReader.Options(generic(maps, "jumprelu"), null);
    try (SaeWeights weights = SaeReader.read(path, options)) {
      assertTrue(weights.info().warnings().stream().noneMatch(warning -> warning.contains("below 0")));
    }
    bytes[bytes.length - 4 * 30 - 1] = (byte) 0xbf; // the last threshold
    Files.write(path, bytes);
    try (SaeWeights weights = SaeReader.read(path, options)) {
      assertTrue(weights.info().warnings().toString().contains("there are thresholds below 0"), weights.info().warnings().toString());
    }
  }

  // ---- unknown files

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "enc=5x3 dec=5x3 b1=5 b2=3                 | W_enc=enc.T W_dec=dec b_enc=b1 b_dec=b2",
        "up=3x5 down=5x3                           | W_enc=up W_dec=down",
        "a.W_dec=5x3 a.W_enc=3x5                   | W_enc=a.W_enc W_dec=a.W_dec",
        "l.1.enc=3x5 l.1.dec=5x3 big=3x300         | W_enc=l.1.enc W_dec=l.1.dec",
        "encode.weight=4x4 decode.weight=4x4 decode.bias=4 encode.bias=4 | W_enc=encode.weight.T W_dec=decode.weight.T b_enc=encode.bias b_dec=decode.bias",
        "enc=3x5 dec=5x4 e=5 usage_count=5 d=1x4   | W_enc=enc W_dec=dec b_enc=e b_dec=d",
        "enc=3x5 dec=5x3 theta=5 b=5               | W_enc=enc W_dec=dec threshold=theta b_enc=b",
        "state_dict.e.W_d=5x3 state_dict.W_e=3x5 state_dict.b1=5 state_dict.b2=3 | W_enc=state_dict.W_e W_dec=state_dict.e.W_d b_enc=state_dict.b1 b_dec=state_dict.b2",
        "spread.enc=3x5 spread.dec=5x3 spread.b=3  | W_enc=spread.enc W_dec=spread.dec b_dec=spread.b",
        "enc=3x5 dec=5x3 log_thresh=5              | W_enc=enc W_dec=dec log_threshold=log_thresh",
        "enc=3x5 dec=5x3 gate_bias=5 mag_bias=5 r_mag=5 pre_bias=3 | W_enc=enc W_dec=dec b_gate=gate_bias b_mag=mag_bias r_mag=r_mag b_dec=pre_bias",
      })
  void whatItSuggestsReadsTheFile(String tensors, String expected) throws IOException {
    Path path = file(tensors);
    String message = failed(() -> SaeReader.read(path), "x.safetensors: no SAE found", "(mwhanna)", "it has the tensors \"");
    String options = message.substring(message.indexOf("--format generic ") + "--format generic ".length());
    Map<String, String> maps = new LinkedHashMap<>();
    String[] words = options.split(" ");
    for (int i = 0; i + 1 < words.length; i++) {
      if (words[i].equals("--map")) {
        maps.put(words[i + 1].substring(0, words[i + 1].indexOf('=')), words[i + 1].substring(words[i + 1].indexOf('=') + 1));
      }
    }
    Generic suggested = new Generic(maps, words[words.length - 1], options.contains("--subtract-b-dec"));
    assertEquals(generic(expected, suggested.activation()).tensors(), maps);
    assertEquals(expected.contains("pre_bias"), suggested.subtractsBDec());
    SaeReader.read(path, new SaeReader.Options(suggested, null)).close();
    refused(() -> SaeReader.read(path, new SaeReader.Options("generic")), "must be told what the tensors are", "and the activation", options);
  }

  @Test
  void unknownFilesOfEveryKindSayWhatTheyHold() throws IOException {
    failed(() -> SaeReader.read(Fixtures.path("saes/generic/pre_bias.pt")), "\"encoder_weights\" [17, 6]", "W_enc=encoder_weights.T", "--subtract-b-dec");
    failed(() -> SaeReader.read(Fixtures.path("saes/generic/tied.npz")), "\"dictionary\" [16, 6]", "W_enc=NAME[.T] ");
    failed(() -> SaeReader.read(Fixtures.path("saes/generic/jumprelu.safetensors")), "--map 'W_enc=sae enc' --map 'W_dec=sae dec'");
    file("e=3x5 d=5x3");
    failed(() -> SaeReader.read(folder), "no SAE found", "--map W_enc=e --map W_dec=d"); // the only file of a folder
    String vector = failed(() -> SaeReader.read(Fixtures.path("vectors/f32.pt")), "it has the tensors");
    assertTrue(!vector.contains("--format"), vector);
  }

  @Test
  void theListOfTensorsIsBounded() throws IOException {
    StringBuilder tensors = new StringBuilder("enc=3x5 dec=5x3");
    for (int i = 0; i < 300; i++) {
      tensors.append(" some.other.tensor.of.a.long.name.").append(i).append("=2");
    }
    Path path = file(tensors.toString());
    String message = failed(() -> SaeReader.read(path), "it has the tensors \"enc\" [3, 5], \"dec\" [5, 3]", " more; say", "W_enc=enc");
    assertTrue(message.length() < 2000, message);
  }

  // ---- writing

  /** As SAELens has it, where it has such an architecture. */
  @ParameterizedTest
  @CsvSource({
    "relu.pt, relu, W_enc=W_enc.T W_dec=W_dec b_enc=b_enc b_dec=b_dec, standard",
    "batchtopk.npz, jumprelu, W_enc=E W_dec=D threshold=theta, jumprelu",
    "nested.pt, topk, W_enc=model.layers[0].enc W_dec=model.layers[0].dec b_enc=model.layers[0].bias, topk",
    "skip.safetensors, relu, W_enc=up.T W_dec=down b_enc=bias b_dec=out W_skip=around.T, skip_transcoder",
    "gated.safetensors, gated, W_enc=encoder.weight.T W_dec=decoder.weight.T b_gate=gate_bias b_mag=mag_bias r_mag=r_mag, gated"
  })
  void whatIsWrittenIsTheSame(String name, String activation, String maps, String architecture) {
    Long k = activation.equals("topk") ? 3L : null;
    Path file = Fixtures.path("saes/generic/" + name);
    try (SaeWeights weights = SaeReader.read(file, new SaeReader.Options(generic(maps, activation), k))) {
      assertEquals(architecture, weights.info().architecture());
      SaeWriter.write(weights, folder.resolve("written"));
      try (SaeWeights again = SaeReader.read(folder.resolve("written"))) {
        assertEquals(weights.form(), again.form());
        assertEquals(architecture, again.info().architecture());
        assertArrayEquals(floats(weights.wEnc()), floats(again.wEnc()));
        assertArrayEquals(floats(weights.wDec()), floats(again.wDec()));
        assertArrayEquals(floats(weights.bDec()), floats(again.bDec()));
        assertArrayEquals(floats(weights.threshold()), floats(again.threshold()));
        assertArrayEquals(floats(weights.scale()), floats(again.scale()));
        assertArrayEquals(floats(weights.offset()), floats(again.offset()));
      }
    }
  }

  @Test
  void saeLensHasNoTopKOfNegativeValues() {
    Generic signed = generic("W_enc=encoder_weights.T W_dec=decoder_weights.T b_enc=latent_bias", "topk-signed");
    try (SaeWeights weights = SaeReader.read(Fixtures.path("saes/generic/pre_bias.pt"), new SaeReader.Options(signed, 4L))) {
      failed(() -> SaeWriter.write(weights, folder.resolve("written")), "a TopK that keeps negative values");
    }
  }
}
