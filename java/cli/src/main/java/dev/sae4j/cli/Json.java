package dev.sae4j.cli;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonPrimitive;
import com.google.gson.JsonSerializationContext;
import com.google.gson.JsonSerializer;
import java.lang.reflect.Type;

/** Results as JSON: a record's components are the fields, meanL0 reads mean_l0, what is undefined or infinite reads null. */
final class Json {
  private static final JsonSerializer<Number> FINITE_OR_NULL = Json::finiteOrNull;

  private static final Gson GSON =
      new GsonBuilder()
          .serializeNulls()
          .disableHtmlEscaping()
          .setPrettyPrinting()
          .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
          .registerTypeAdapter(double.class, FINITE_OR_NULL)
          .registerTypeAdapter(Double.class, FINITE_OR_NULL)
          .registerTypeAdapter(float.class, FINITE_OR_NULL)
          .registerTypeAdapter(Float.class, FINITE_OR_NULL)
          .create();

  private Json() {}

  static String of(Object result) {
    return GSON.toJson(result);
  }

  private static JsonElement finiteOrNull(Number value, Type type, JsonSerializationContext context) {
    return Double.isFinite(value.doubleValue()) ? new JsonPrimitive(value) : JsonNull.INSTANCE;
  }
}
