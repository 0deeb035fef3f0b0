# What one region of Google Cloud consists of, without an account: terraform test, with a provider that makes nothing.
mock_provider "google" {
  mock_resource "google_compute_address" {
    defaults = { address = "198.51.100.7" }
  }

  mock_resource "google_compute_instance_template" {
    defaults = { self_link_unique = "projects/p/global/instanceTemplates/node-1" }
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

  cloud_region        = "europe-west1"
  zones               = ["europe-west1-b", "europe-west1-c"]
  network             = "projects/p/global/networks/shop"
  parent_managed_zone = "example-com"
  emails              = ["operators@example.com"]
}

run "a_region" {
  command = apply

  assert {
    condition     = output.name_servers == { "ns-eu-west-1.gw.example.com" = "198.51.100.7", "ns-eu-west-2.gw.example.com" = "198.51.100.7" }
    error_message = "All but one of the least number of nodes are name servers, at addresses of their own."
  }

  assert {
    condition     = google_compute_region_autoscaler.node.autoscaling_policy[0].min_replicas == 1 && google_compute_region_autoscaler.node.autoscaling_policy[0].max_replicas == 3
    error_message = "The group holds the other nodes: 3 to 5 in all, of which 2 stay."
  }

  assert {
    condition     = [for one in values(google_compute_instance_from_template.server) : one.network_interface[0].access_config[0].nat_ip] == ["198.51.100.7", "198.51.100.7"]
    error_message = "A name server has the address that the delegation says."
  }

  assert {
    condition     = google_compute_instance.member["etcd-eu"].network_interface[0].network_ip == "10.1.0.10" && strcontains(google_compute_instance.member["etcd-eu"].metadata["user-data"], "install.sh\" pki etcd")
    error_message = "The region's member of etcd has the address that others were told, and is the authority."
  }

  assert {
    condition     = google_compute_firewall.in["node-peers"].source_ranges == tolist(["10.3.0.0/16", "10.1.0.0/16", "10.2.0.0/16"]) && google_compute_firewall.in["node-admin"].source_ranges == tolist(["192.0.2.0/24"])
    error_message = "Peers come from the cluster's networks, operators from theirs."
  }

  assert {
    condition     = toset(output.alarms) == toset(["nodes-busy", "etcd-etcd-eu"])
    error_message = "Alarms for busy nodes and for each member of etcd."
  }

  assert {
    condition     = [for record in values(google_dns_record_set.glue) : record.name] == ["ns-eu-west-1.gw.example.com.", "ns-eu-west-2.gw.example.com."]
    error_message = "The glue is in the parent's zone."
  }
}

run "a_group_that_is_too_small_is_refused" {
  command = plan
  variables { nodes = { min = 1, max = 1 } }
  expect_failures = [google_compute_instance_template.node]
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
