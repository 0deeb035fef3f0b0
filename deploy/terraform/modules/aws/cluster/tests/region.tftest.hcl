# What one region consists of, without an account: terraform test, with a provider that makes nothing.
mock_provider "aws" {
  mock_data "aws_ami" {
    defaults = { id = "ami-00000000000000001" }
  }

  # The provider looks at the shape of these.
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-00000000000000001" }
  }

  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:000000000000:loadbalancer/net/shop-dns/1" }
  }

  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:000000000000:targetgroup/shop-dns/1" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-west-1:000000000000:shop" }
  }
}

variables {
  name             = "shop"
  region           = "eu-west"
  cidr             = "10.1.0.0/16"
  regions          = { eu-west = "10.1.0.0/16", us-east = "10.2.0.0/16", ap-south = "10.3.0.0/16" }
  zones            = ["eu-west-1a", "eu-west-1b"]
  peerings         = { "10.2.0.0/16" = "pcx-1", "10.3.0.0/16" = "pcx-2" }
  etcd_members     = { etcd-eu = "10.1.0.10", etcd-us = "10.2.0.10", etcd-ap = "10.3.0.10" }
  etcd_here        = { etcd-eu = 0 }
  authority_member = "etcd-eu"
  nodes            = { min = 2, max = 4 }
  limit_nodes      = 12
  zone             = "gw.example.com"
  parent_zone_id   = "Z1"
  emails           = ["operators@example.com"]
  bundle_url       = "https://files.example.com/meridian.tar.gz"
  bundle_sha256    = "0000000000000000000000000000000000000000000000000000000000000000"
  authority        = "https://10.1.0.10:9902"
  join_token       = "mrd1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.0000000000000000000000000000000000000000000000000000000000000000"
}

run "a_region" {
  command = apply

  assert {
    condition     = length(module.network.subnet_ids) == 2 && module.network.subnet_cidrs == ["10.1.0.0/20", "10.1.16.0/20"]
    error_message = "A subnet in each zone."
  }

  assert {
    condition     = keys(module.dns.name_servers) == ["ns-eu-west-1.gw.example.com", "ns-eu-west-2.gw.example.com"]
    error_message = "A name server in each subnet, named for the region."
  }

  assert {
    condition     = keys(module.etcd.instance_ids) == ["etcd-eu"] && length(module.etcd.endpoints) == 3
    error_message = "The region's own member of etcd, and the endpoints of all."
  }

  assert {
    condition     = contains(module.observability.alarms, "etcd-etcd-eu") && contains(module.observability.alarms, "no-name-server")
    error_message = "Alarms for name servers and for each member of etcd."
  }
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

run "a_network_that_others_do_not_know_is_refused" {
  command = plan
  variables { cidr = "10.9.0.0/16" }
  expect_failures = [var.regions]
}

run "what_is_no_token_is_refused" {
  command = plan
  variables { join_token = "secret" }
  expect_failures = [var.join_token]
}

run "flags_cannot_leave_their_line" {
  command = plan
  variables { node_args = "--workers=2\"; reboot" }
  expect_failures = [var.node_args]
}
