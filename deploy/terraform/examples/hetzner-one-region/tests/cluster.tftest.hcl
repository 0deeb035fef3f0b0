mock_provider "hcloud" {
  mock_resource "hcloud_primary_ip" {
    defaults = { id = "7", ip_address = "198.51.100.7" }
  }

  mock_resource "hcloud_firewall" {
    defaults = { id = "8" }
  }

  mock_resource "hcloud_placement_group" {
    defaults = { id = "9" }
  }

  mock_resource "hcloud_network" {
    defaults = { id = "1" }
  }

  mock_resource "hcloud_server" {
    defaults = { id = "2", ipv4_address = "198.51.100.9" }
  }
}

variables {
  zone          = "gw.example.com"
  bundle_url    = "https://files.example.com/meridian.tar.gz"
  bundle_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
  join_token    = "mrd1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.0000000000000000000000000000000000000000000000000000000000000000"
  ssh_keys      = ["operator"]
}

run "a_cluster" {
  command = apply

  assert {
    condition     = length(output.delegation) == length(local.regions) * 2 * local.nodes.min && alltrue([for line in output.delegation : strcontains(line, "gw.example.com.")])
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
