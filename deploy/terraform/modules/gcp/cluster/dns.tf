# Addresses of name servers that never change. Each is a node's own: what Google's load balancers for UDP deliver is for
# the balancer's address, from which a node that is bound to its own could not answer.
resource "google_compute_address" "server" {
  for_each = local.servers

  name   = "${var.name}-${each.key}"
  region = var.cloud_region
  labels = merge(local.labels, { role = "dns" })
}

# The glue. The NS record set names the servers of all regions, so it is written once, by who knows them all: the example
# of three regions shows it.
resource "google_dns_record_set" "glue" {
  for_each = var.parent_managed_zone == "" ? {} : local.servers

  managed_zone = var.parent_managed_zone
  name         = "${each.key}.${var.zone}."
  type         = "A"
  ttl          = 3600
  rrdatas      = [google_compute_address.server[each.key].address]
}
