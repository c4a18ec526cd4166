package dev.sae4j.cli;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.TypeAdapter;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonWriter;
import java.io.IOException;

/** Results as JSON: a record's components are the fields, meanL0 reads mean_l0, what is undefined or infinite reads null. */
final class Json {
  private static final Gson GSON =
      new GsonBuilder()
          .serializeNulls()
          .disableHtmlEscaping()
          .setPrettyPrinting()
          .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
          .registerTypeAdapter(double.class, new FiniteOrNull())
          .registerTypeAdapter(Double.class, new FiniteOrNull())
          .registerTypeAdapter(float.class, new FiniteOrNull())
          .registerTypeAdapter(Float.class, new FiniteOrNull())
          .create();

  private Json() {}

  static String of(Object result) {
    return GSON.toJson(result);
  }

  private static final class FiniteOrNull extends TypeAdapter<Number> {
    @Override
    public void write(JsonWriter json, Number value) throws IOException {
      json.value(value != null && Double.isFinite(value.doubleValue()) ? value : null);
    }

    @Override
    public Number read(JsonReader json) {
      throw new UnsupportedOperationException("results are only written");
    }
  }
}
