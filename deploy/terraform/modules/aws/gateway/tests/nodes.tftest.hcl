mock_provider "aws" {
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-00000000000000001" }
  }
}

variables {
  region            = "eu-west"
  limit_nodes       = 12
  etcd_endpoints    = ["https://10.1.0.10:2379", "https://10.2.0.10:2379"]
  subnet_ids        = ["subnet-1"]
  security_group_id = "sg-1"
  ami_id            = "ami-1"
  node_args         = "--capacity=2000/s"
  bundle_url        = "https://files.example.com/meridian.tar.gz"
  bundle_sha256     = "0000000000000000000000000000000000000000000000000000000000000000"
  authority         = "https://10.1.0.10:9902"
  join_token        = "mrd1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.0000000000000000000000000000000000000000000000000000000000000000"
}

run "machines_are_told_who_they_are" {
  command = apply

  assert {
    condition     = strcontains(base64decode(aws_launch_template.node.user_data), "--region=eu-west --cluster=meridian --etcd=https://10.1.0.10:2379,https://10.2.0.10:2379 --limit-nodes=12 --capacity=2000/s")
    error_message = "The node's flags."
  }

  assert {
    condition     = length(aws_launch_template.node.user_data) < 16384
    error_message = "AWS takes 16 KB of user-data."
  }

  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required" && aws_launch_template.node.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "Version 2 of the metadata service, and encrypted disks."
  }
}

run "a_machine_that_ends_has_time_to_leave" {
  command = plan

  assert {
    # 5 s until it knows, 25 s for the longest drain.
    condition     = aws_autoscaling_lifecycle_hook.leave.heartbeat_timeout >= 45 && aws_autoscaling_lifecycle_hook.leave.default_result == "CONTINUE"
    error_message = "The group waits for a drain, and goes on by itself."
  }
}

run "more_at_most_than_at_least" {
  command = plan
  variables { nodes = { min = 3, max = 2 } }
  expect_failures = [var.nodes]
}
