# What one location of Hetzner consists of, without an account: terraform test, with a provider that makes nothing.
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
}

variables {
  name             = "shop"
  region           = "eu-west"
  cidr             = "10.1.0.0/16"
  regions          = { eu-west = "10.1.0.0/16", us-east = "10.2.0.0/16", ap-south = "10.3.0.0/16" }
  etcd_members     = { etcd-eu = "10.1.0.10", etcd-us = "10.2.0.10", etcd-ap = "10.3.0.10" }
  etcd_here        = { etcd-eu = 0 }
  authority_member = "etcd-eu"
  nodes            = { min = 3, max = 5 }
  limit_nodes      = 15
  zone             = "gw.example.com"
  operator_cidrs   = ["192.0.2.0/24"]
  bundle_url       = "https://files.example.com/meridian.tar.gz"
  bundle_sha256    = "0000000000000000000000000000000000000000000000000000000000000000"
  authority        = "https://10.1.0.10:9902"
  join_token       = "mrd1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.0000000000000000000000000000000000000000000000000000000000000000"

  zones      = ["fsn1"]
  network_id = 1
  ssh_keys   = ["operator"]
}

run "a_region" {
  command = apply

  assert {
    condition     = keys(output.name_servers) == ["ns-eu-west-1.gw.example.com", "ns-eu-west-2.gw.example.com", "ns-eu-west-3.gw.example.com"]
    error_message = "Each node is a name server."
  }

  assert {
    condition     = alltrue([for one in hcloud_server.node : one.shutdown_before_deletion && one.public_net != null])
    error_message = "A node is shut down before it is deleted, and has an address that stays."
  }

  assert {
    condition     = strcontains(hcloud_server.node["ns-eu-west-1"].user_data, "address=$(echo 10.1.0.101)") && strcontains(hcloud_server.node["ns-eu-west-1"].user_data, "--peer-address=$address --advertise=$public --region=eu-west")
    error_message = "Other nodes reach it on the private network, the world on all its addresses."
  }

  assert {
    condition     = toset([for rule in hcloud_firewall.this["etcd"].rule : rule.description]) == toset(["etcd-ssh"])
    error_message = "Nobody but operators comes to a member of etcd from the world."
  }

  assert {
    condition     = toset([for rule in hcloud_firewall.this["node"].rule : rule.port]) == toset(["53", "80", "443", "22", "9900"])
    error_message = "The world comes to DNS and the listeners, operators to SSH and the admin API."
  }
}

run "more_machines_than_are_kept_apart_are_refused" {
  command = plan
  variables { nodes = { min = 10, max = 10 } }
  expect_failures = [hcloud_placement_group.this]
}

run "an_even_etcd_is_refused" {
  command = plan
  variables { etcd_members = { etcd-eu = "10.1.0.10", etcd-us = "10.2.0.10" } }
  expect_failures = [var.etcd_members]
}

run "the_whole_world_is_no_operator" {
  command = plan
  variables { operator_cidrs = ["0.0.0.0/0"] }
  expect_failures = [var.operator_cidrs]
}
