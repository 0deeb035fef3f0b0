mock_provider "google" {
  mock_resource "google_compute_address" {
    defaults = { address = "198.51.100.7" }
  }

  mock_resource "google_compute_instance" {
    defaults = { network_interface = { access_config = { nat_ip = "198.51.100.9" } } }
  }
}

variables {
  zone          = "gw.example.com"
  bundle_url    = "https://files.example.com/meridian.tar.gz"
  bundle_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
  join_token    = "mrd1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.0000000000000000000000000000000000000000000000000000000000000000"
  project       = "p"
}

run "a_cluster" {
  command = apply

  assert {
    condition     = length(output.delegation) == length(local.regions) * 2 * (local.nodes.min - 1) && alltrue([for line in output.delegation : strcontains(line, "gw.example.com.")])
    error_message = "An NS record and its glue for each name server."
  }

  assert {
    condition     = output.bring_authority_to == "198.51.100.9"
    error_message = "Where the authority's folder goes is a member of etcd."
  }

  assert {
    # Each region's own members, each at one of its addresses, and one authority in all.
    condition     = length([for one in local.regions : one if contains(keys(one.etcd), local.authority)]) == 1 && toset(flatten([for one in local.regions : keys(one.etcd)])) == toset(keys(local.etcd_members))
    error_message = "Members of etcd stand in one region each."
  }
}
