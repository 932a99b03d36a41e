// The same request by hand, to copy.

const $ = (id) => document.getElementById(id);

/** Show the command that asks `model`, with a key where the service wants one. */
export function showCurl(model, hasKey) {
  const address = new URL("v1/classify", document.baseURI);
  if (model) address.search = new URLSearchParams({ model: model.name, version: model.version });
  const key = hasKey ? `--header "X-Api-Key: $KEY" ` : "";
  $("curl").textContent = `curl ${key}--data-binary @image.png '${address}'`;
}

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("curl")); // where the browser lets no page write: without TLS, or forbidden
    $("copied").textContent = "Selected: copy it with the keyboard.";
  }
});
