# ddvla with the rclgo back end on ROS 2 Humble.
#
#   docker build -t ddvla .
#   docker run --rm --net=host -v /models:/models ddvla policy:=/models/mine
ARG ROS_DISTRO=humble

FROM ros:${ROS_DISTRO}-ros-base AS build
ARG GO_VERSION=1.26.0
ARG TARGETARCH=amd64
RUN apt-get update && apt-get install -y --no-install-recommends \
      curl g++ make pkg-config cyclonedds-dev libturbojpeg0-dev libsentencepiece-dev \
    && rm -rf /var/lib/apt/lists/* \
    && curl -fsSL https://go.dev/dl/go${GO_VERSION}.linux-${TARGETARCH}.tar.gz | tar -C /usr/local -xz
ENV PATH=/usr/local/go/bin:${PATH}
WORKDIR /ws
COPY . src/discrete_diffusion_vla
RUN . /opt/ros/${ROS_DISTRO}/setup.sh && colcon build --install-base /opt/ddvla --merge-install

FROM ros:${ROS_DISTRO}-ros-base
# The GPU build of ONNX Runtime; its CUDA libraries come with the host's container tool kit.
ARG ORT_VERSION=1.30.0
RUN apt-get update && apt-get install -y --no-install-recommends \
      curl libturbojpeg libsentencepiece0 ros-${ROS_DISTRO}-rmw-cyclonedds-cpp \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /opt/onnxruntime \
    && curl -fsSL https://github.com/microsoft/onnxruntime/releases/download/v${ORT_VERSION}/onnxruntime-linux-x64-gpu-${ORT_VERSION}.tgz \
       | tar -C /opt/onnxruntime --strip-components=1 -xz
ENV DDVLA_ORT_LIBRARY=/opt/onnxruntime/lib/libonnxruntime.so.1 \
    RMW_IMPLEMENTATION=rmw_cyclonedds_cpp
COPY --from=build /opt/ddvla /opt/ddvla
RUN useradd --create-home ddvla
USER ddvla
ENTRYPOINT ["/bin/bash", "-c", "source /opt/ddvla/setup.bash && exec ros2 launch discrete_diffusion_vla cobot_magic.launch.py \"$@\"", "--"]
