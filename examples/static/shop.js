async function show() {
  const answer = await (await fetch("/api/products")).json();
  document.getElementById("region").textContent = answer.region;
  document.getElementById("protocol").textContent =
    performance.getEntriesByType("navigation")[0].nextHopProtocol || "http/1.1";
  for (const product of answer.products) {
    const item = document.createElement("li");
    item.textContent = `${product.name}, ${(product.cents / 100).toFixed(2)}`;
    document.getElementById("products").append(item);
  }
}
show();
